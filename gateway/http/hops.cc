// Who is in front of us, and who the client is behind it (`trusted_proxies`).
#include <algorithm>

#include "gateway/http/exchange.h"
#include "gateway/http/forwarded.h"
#include "gateway/http1/field.h"
#include "gateway/http1/field_reader.h"
#include "gateway/http1/request_fields.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {
namespace {

using http1::KnownField;
using http1::KnownFieldSet;

// What only a proxy may say of the client.
constexpr KnownFieldSet kXForwarded{
    KnownField::x_forwarded_for,    KnownField::x_forwarded_host,  KnownField::x_forwarded_port,
    KnownField::x_forwarded_prefix, KnownField::x_forwarded_proto, KnownField::x_forwarded_scheme,
    KnownField::x_forwarded_server, KnownField::x_forwarded_ssl,   KnownField::x_real_ip};
constexpr KnownFieldSet kForwarded{KnownField::forwarded};

// A literal; "": neither.
std::string_view scheme_of(std::string_view text) {
  if (http1::equals_ignoring_case(text, "https")) return "https";
  return http1::equals_ignoring_case(text, "http") ? "http" : "";
}

}  // namespace

void Exchange::find_client() {
  address_ = client_->client().peer.address;
  address_claimed_ = client_->client().peer_claimed;
  said_scheme_ = {};
  const auto& proxies = config_->policy().trusted_proxies;
  behind_proxy_ = !proxies.empty() && among(proxies, address_);
  if (!behind_proxy_) return;
  if (listener().policy().client_from == policy::ClientFrom::forwarded) {
    find_client_in_forwarded();
  } else {
    find_client_in_x_forwarded_for();
  }
}

void Exchange::find_client_in_x_forwarded_for() {
  said_scheme_ = scheme_of(request_.fields().first(KnownField::x_forwarded_proto));
  const http1::RequestFields fields(request_, joined_field_);
  believe(client_in_x_forwarded_for(fields.field("x-forwarded-for").value_or(""),
                                    config_->policy().trusted_proxies));
}

void Exchange::find_client_in_forwarded() {
  const http1::RequestFields fields(request_, joined_field_);
  const NamedClient named = client_in_forwarded(fields.field("forwarded").value_or(""),
                                                config_->policy().trusted_proxies);
  said_scheme_ = scheme_of(named.proto);
  believe(named);
}

void Exchange::believe(const NamedClient& named) {
  if (!named.client) return;
  address_ = *named.client;
  address_claimed_ = true;
}

std::string_view Exchange::client_text() const {
  if (address_ == client_->client().peer.address) return client_->peer_text();
  client_text_ = address_.to_string();
  return client_text_;
}

// Of anybody else they are not believed, nor passed on for others to believe; nor is of a proxy the
// kind that it does not write itself.
http1::KnownFieldSet Exchange::not_believed() const {
  if (!behind_proxy_) return kXForwarded | kForwarded;
  const bool reads_x = listener().policy().client_from == policy::ClientFrom::x_forwarded_for;
  return reads_x ? kForwarded : kXForwarded;
}

void Exchange::add_hop(http1::RequestForwarding& options,
                       std::span<ExtraField, kHopFields> memory) {
  const policy::Listener& policy = listener().policy();
  const bool reads_x = policy.client_from == policy::ClientFrom::x_forwarded_for;
  options.remove = not_believed();
  std::size_t count = 0;
  if (policy.forwarded != policy::ForwardedFields::forwarded) {
    const bool kept = behind_proxy_ && reads_x;
    x_forwarded_for_.clear();
    if (!kept && address_ != client_->client().peer.address)
      x_forwarded_for_.append(client_text()).append(", ");
    x_forwarded_for_.append(client_->peer_text());
    memory[count++] = {"X-Forwarded-For", x_forwarded_for_};
    if (!kept || !request_.fields().has(KnownField::x_forwarded_proto))
      memory[count++] = {"X-Forwarded-Proto", client_scheme()};
  }
  if (policy.forwarded != policy::ForwardedFields::x_forwarded) {
    write_forwarded(behind_proxy_ && !reads_x);
    options.remove = options.remove | kForwarded;  // one line, for those that read the first alone
    memory[count++] = {"Forwarded", forwarded_};
  }
  count += correlate_hop(options, memory.subspan(count));
  if (actions_ != nullptr) count = without_changed(memory.first(count));
  options.add = memory.first(count);
}

// What the route sets or removes itself.
std::size_t Exchange::without_changed(std::span<ExtraField> fields) const {
  const auto& changed = actions_->request.drop;
  if (changed.empty()) return fields.size();
  const auto rest = std::ranges::remove_if(fields, [&](const ExtraField& field) {
    return std::ranges::any_of(changed, [&](const std::string& name) {
      return http1::equals_ignoring_case(field.name, name);
    });
  });
  return fields.size() - rest.size();
}

// What X-Forwarded-For and -Proto have said, as far as it is believed.
void Exchange::write_earlier_hop() {
  const bool named = address_ != client_->client().peer.address;
  if (named) append_for(address_, forwarded_);
  if (!said_scheme_.empty()) forwarded_.append(named ? ";proto=" : "proto=").append(said_scheme_);
  if (!forwarded_.empty()) forwarded_.append(", ");
}

// RFC 7239 section 4: this hop's element, behind what earlier ones have said where that is `kept`.
void Exchange::write_forwarded(bool kept) {
  forwarded_.clear();
  if (kept) {
    const http1::RequestFields fields(request_, joined_field_);
    forwarded_.assign(fields.field("forwarded").value_or(""));
    if (!forwarded_.empty()) forwarded_.append(", ");
  } else {
    write_earlier_hop();
  }
  append_for(client_->client().peer.address, forwarded_);
  if (!host_.empty()) {
    forwarded_.append(";host=\"").append(host_);
    if (const auto port = request_.port()) forwarded_.append(":").append(std::to_string(*port));
    forwarded_.append("\"");
  }
  forwarded_.append(";proto=").append(own_scheme());
}

}  // namespace sluice::gateway::http
