// From the tree to `kubernetes`, and to Services that endpoints name.
#include "policy/binding/paths.h"
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/host.h"
#include "policy/schema.h"

namespace sluice::policy {
namespace {

constexpr std::uint16_t kHttps = 443;
constexpr std::uint16_t kHttp = 80;

bool host(std::string_view text, KubernetesServer& out) {
  if (const auto address = IpAddress::parse(text)) {
    out.address.address = *address;
    return true;
  }
  const auto name = normalise_host_pattern(text);
  if (!name || name->starts_with('*') || name->starts_with('[')) return false;
  out.name = *name;
  return true;
}

// HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT.
bool host_and_port(std::string_view text, KubernetesServer& out) {
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return false;
    port = text.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return false;
    text = text.substr(1, end - 1);
  } else if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    port = text.substr(colon);
    text = text.substr(0, colon);
  }
  if (!port.empty()) {
    const auto number = PortRange::parse(port.substr(1));
    if (!number || number->first == 0 || number->first != number->last) return false;
    out.address.port = number->first;
  }
  return host(text, out);
}

}  // namespace

std::optional<KubernetesServer> parse_kubernetes_server(std::string_view url) {
  constexpr std::string_view kTls = "https://";
  constexpr std::string_view kPlain = "http://";
  KubernetesServer out;
  out.tls = url.starts_with(kTls);
  if (!out.tls && !url.starts_with(kPlain)) return std::nullopt;
  url.remove_prefix(out.tls ? kTls.size() : kPlain.size());
  if (url.ends_with('/')) url.remove_suffix(1);
  out.address.port = out.tls ? kHttps : kHttp;
  if (!host_and_port(url, out)) return std::nullopt;
  out.authority = url;
  return out;
}

}  // namespace sluice::policy

namespace sluice::policy::binding {

void kubernetes(const Node& node, const Reporter& reporter, KubernetesConfig& out) {
  out.where = reporter.locate(node.where());
  optional(node, "server", out.server);
  if (const Node* token = node.find("token")) out.token = secret_beside_policy(*token, reporter);
  if (const Node* ca = node.find("ca"))
    out.ca = ca->text == kSystemCa ? ca->text : beside_policy(*ca, reporter, ca->text);
  optional(node, "node", out.node);
}

void kubernetes_service(const Node& node, KubernetesService& out) {
  optional(node, "service", out.service);
  optional(node, "namespace", out.name_space);
  optional(node, "port", out.port);
}

}  // namespace sluice::policy::binding
