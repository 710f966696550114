#pragma once

#include <optional>

#include "gateway/metrics_counters.h"

namespace sluice::gateway {

// What the kernel knows of a connected TCP socket (tcp(7), TCP_INFO): one system call. `retransmits`
// are those of the connection's whole life. Nullopt: it is no TCP socket any more.
std::optional<NetworkSample> sample_tcp(int fd);

}  // namespace sluice::gateway
