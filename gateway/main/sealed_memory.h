// Bytes for another process, in memory that nobody changes any more.
#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <string_view>

#include "gateway/tls/secret.h"
#include "kernel/keeper_protocol.h"

namespace sluice::control {

std::expected<kernel::protocol::OwnedFd, std::string> sealed_memory(const char* name,
                                                                    std::string_view bytes);

// What the other side has put there; wiped when it is done with.
std::expected<gateway::tls::Secret, std::string> read_memory(int fd);

// The same of memory that the other side may still write and that holds no secret. Nothing where it
// is more than `limit` bytes or cannot be read: what it says is then done without.
std::string read_memory_text(int fd, std::size_t limit);

}  // namespace sluice::control
