// base64url without padding (RFC 7515 section 2).
#pragma once

#include <string>
#include <string_view>

namespace sluice::gateway::auth {

// Appends the bytes. False: not canonical base64url; `out` is then of no use.
bool decode_base64url(std::string_view text, std::string& out);

}  // namespace sluice::gateway::auth
