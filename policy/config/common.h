// What the sections of config.h share.
#pragma once

#include <chrono>

namespace sluice::policy {

// Of a header in front of a connection (haproxy.org, proxy-protocol.txt).
enum class ProxyProtocol { none, v1, v2, any };

using Duration = std::chrono::nanoseconds;
using namespace std::chrono_literals;

}  // namespace sluice::policy
