// What the sections of config.h share.
#pragma once

#include <chrono>

namespace sluice::policy {

// Of a header in front of a connection (haproxy.org, proxy-protocol.txt).
enum class ProxyProtocol { none, v1, v2, any };

using Duration = std::chrono::nanoseconds;
using namespace std::chrono_literals;

// Which connections to sockets of this node go by the express lane.
enum class Express { none, upstream, both };

}  // namespace sluice::policy
