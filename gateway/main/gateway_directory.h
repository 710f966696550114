// Where the gateway process may write below the policy's `state_dir`, beside what the keeper
// trusts.
#pragma once

#include <expected>
#include <string>

namespace sluice::control {

// Makes the directory, mode 0770, owned by this process and of the group of `user` (a name or a
// number; empty: the gateway is who this process is, and the mode 0700), or gives it to them.
// `state_dir` itself is made where it is missing, open to pass through. Needs CAP_SETGID for
// another group than its own. Not while another thread opens files. The error says what is in the
// way.
std::expected<void, std::string> make_gateway_directory(const std::string& state_dir,
                                                        const std::string& user);

}  // namespace sluice::control
