// Who is in front of us, and who the client is behind it (`trusted_proxies`).
#include <algorithm>

#include "gateway/http/exchange.h"
#include "gateway/http1/request_fields.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {
namespace {

using http1::KnownField;
using http1::KnownFieldSet;

// What only a proxy may say of the client.
constexpr KnownFieldSet kHopFields{KnownField::forwarded,         KnownField::x_forwarded_for,
                                   KnownField::x_forwarded_host,  KnownField::x_forwarded_port,
                                   KnownField::x_forwarded_proto, KnownField::x_real_ip};

bool among(const std::vector<policy::Prefix>& proxies, const policy::IpAddress& address) {
  return std::ranges::any_of(proxies,
                             [&](const policy::Prefix& proxy) { return proxy.contains(address); });
}

std::string_view last_element(std::string_view& list) {
  const std::size_t comma = list.rfind(',');
  std::string_view element = comma == std::string_view::npos ? list : list.substr(comma + 1);
  list = comma == std::string_view::npos ? std::string_view() : list.substr(0, comma);
  while (!element.empty() && (element.front() == ' ' || element.front() == '\t'))
    element.remove_prefix(1);
  while (!element.empty() && (element.back() == ' ' || element.back() == '\t'))
    element.remove_suffix(1);
  return element;
}

}  // namespace

// From the right, since each hop adds there: the first one that is no trusted proxy is the client.
// What cannot be read ends the search: the hop that said it is the client then.
void Exchange::find_client() {
  address_ = client_->client().peer.address;
  address_claimed_ = client_->client().peer_claimed;
  const auto& proxies = config_->policy().trusted_proxies;
  behind_proxy_ = !proxies.empty() && among(proxies, address_);
  if (!behind_proxy_) return;
  const http1::RequestFields fields(request_, joined_field_);
  std::string_view list = fields.field("x-forwarded-for").value_or("");
  while (!list.empty()) {
    const auto hop = policy::IpAddress::parse(last_element(list));
    if (!hop) return;
    address_ = *hop;
    address_claimed_ = true;
    if (!among(proxies, address_)) return;
  }
}

// Of anybody else they are not believed, nor passed on for others to believe.
void Exchange::add_hop(http1::RequestForwarding& options, std::span<ExtraField, 2> memory) {
  memory[0] = {"X-Forwarded-For", client_->peer_text()};
  memory[1] = {"X-Forwarded-Proto", client_scheme()};
  const bool said = behind_proxy_ && request_.fields().has(KnownField::x_forwarded_proto);
  options.add = memory.first(said ? 1 : 2);
  options.remove = behind_proxy_ ? KnownFieldSet() : kHopFields;
}

}  // namespace sluice::gateway::http
