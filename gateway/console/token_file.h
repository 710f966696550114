// The secret that a change must bring: the one line of a file that only its owner may read.
#pragma once

#include <expected>
#include <string>

namespace sluice::gateway {

// An error says why not, without the file's name, and never a byte of it.
std::expected<std::string, std::string> read_token_file(const std::string& path);

}  // namespace sluice::gateway
