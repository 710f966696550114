// The pods that were heard of last, in the state directory: after a restart rules go on to hold for
// them until the API server is heard of again. Not after a reboot, when every address is another's.
#pragma once

#include <expected>
#include <string>
#include <string_view>

namespace sluice::gateway {

// As policy::to_text() writes them; "": none, or of another boot.
std::expected<std::string, std::string> load_pods(const std::string& state_dir);
std::expected<void, std::string> save_pods(const std::string& state_dir, std::string_view pods);

}  // namespace sluice::gateway
