// The PROXY protocol, versions 1 and 2: who a connection's client is, said by the proxy in front of
// it (HAProxy's proxy-protocol.txt).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "policy/address.h"
#include "policy/config/common.h"

namespace sluice::gateway {

struct ProxyHeader {
  std::size_t size = 0;  // bytes; what follows is the client's
  // None: the proxy speaks for itself (LOCAL, UNKNOWN), a health check mostly.
  std::optional<policy::SocketAddress> source;
  std::optional<policy::SocketAddress> destination;
};

enum class ProxyHeaderState : std::uint8_t { need_more, complete, malformed };
inline constexpr std::size_t kMaxProxyHeader = 4096;  // with its TLVs, which are passed over

// Pure. `bytes`: the first ones of a connection, as many as are there. Anything but a header of the
// accepted version is malformed: it is never guessed at.
ProxyHeaderState parse_proxy_header(std::string_view bytes, policy::ProxyProtocol accepted,
                                    ProxyHeader& out);

// `version` is v1 or v2.
std::string make_proxy_header(policy::ProxyProtocol version, const policy::SocketAddress& source,
                              const policy::SocketAddress& destination);

// For a connection of the proxy's own, such as a health check: it speaks for nobody.
std::string make_own_proxy_header(policy::ProxyProtocol version);

}  // namespace sluice::gateway
