// Plain TCP for tests: connects, accepts, and who is at the other end.
#pragma once

#include <cstdint>
#include <string>

#include "kernel/keeper_protocol.h"

namespace sluice::kernel::testing {

using Fd = protocol::OwnedFd;

// Blocking connect with a deadline of `seconds`; an invalid descriptor and errno on failure.
// `source`: bind to it first.
Fd connect_to(const std::string& address, std::uint16_t port, const std::string& source = "",
              int seconds = 5, std::uint32_t mark = 0);
// Waits up to `seconds` for a connection.
Fd accept_from(int listener, int seconds = 5);
// "10.9.0.7:80" or "[2001:db8::1]:80"; mapped addresses as IPv4.
std::string local_name(int fd);
std::string peer_name(int fd);
Fd listen_on(const std::string& address, std::uint16_t port);

// Both directions carry bytes.
bool exchange(int left, int right);

}  // namespace sluice::kernel::testing
