#include "kernel/builtin_protect.h"

#include <arpa/inet.h>
#include <array>
#include <cstdlib>

#include "kernel/interfaces.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr PortRange kDns{53, 53};
constexpr PortRange kDnsOverTls{853, 853};

Protect server(const Prefix& peer, std::vector<PortRange> ports) {
  return {.peer = peer,
          .to_ports = std::move(ports),
          .interfaces = {},
          .upstream = false,
          .server_only = true};
}

// What Kubernetes puts into every container's environment.
std::vector<Protect> api_server() {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr) return {};
  auto bytes = all_of_v4().address;
  std::array<std::uint8_t, 16> v6{};
  if (::inet_pton(AF_INET, host, bytes.data() + 12) != 1) {
    if (::inet_pton(AF_INET6, host, v6.data()) != 1) return {};
    bytes = v6;
  }
  const int number = port == nullptr ? 443 : std::atoi(port);
  if (number < 1 || number > 65535) return {};
  const auto at = static_cast<std::uint16_t>(number);
  return {server(host_prefix(bytes), {{at, at}})};
}

}  // namespace

std::vector<Protect> builtin_protect() {
  std::vector<Protect> out = api_server();
  for (const auto& resolver : read_resolvers())
    out.push_back(server(resolver, {kDns, kDnsOverTls}));
  if (const auto network = read_node_network()) {
    for (const auto& route : network->default_routes) {
      if (route.has_gateway) out.push_back(server(route.gateway, {}));
    }
  }
  return out;
}

}  // namespace sluice::kernel
