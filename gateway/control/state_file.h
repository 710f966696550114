// Files of the state directory: replaced whole or not at all, readable by their owner alone.
#pragma once

#include <cstddef>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::gateway {

// Makes the directory if it is missing. Written through before it takes the old one's place: after a
// power cut one of the two is whole. The error names the path.
std::expected<void, std::string> write_state_file(const std::string& path, std::string_view bytes);

// nullopt: there is none. More than `limit` bytes are an error; so is a symbolic link.
std::expected<std::optional<std::string>, std::string> read_state_file(const std::string& path,
                                                                       std::size_t limit);

}  // namespace sluice::gateway
