// A request as routes, access rules, limits and header actions see it. Views, valid as long as the
// caller's memory.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "policy/address.h"

namespace sluice::policy {

// The header fields of a request, by name.
class FieldSource {
 public:
  // `lower_name` in lower case. Where a field has several lines, all of them joined by ", "
  // (RFC 9110 section 5.3): a rule that saw only one of them could be passed by. nullopt: absent.
  // Valid until the next call.
  virtual std::optional<std::string_view> field(std::string_view lower_name) const = 0;

 protected:
  ~FieldSource() = default;
};

// What is known of an authenticated caller, by name: a token's claims, an API key's attributes.
class AttributeSource {
 public:
  // Of a list, all elements, joined by spaces.
  virtual std::optional<std::string_view> attribute(std::string_view name) const = 0;
  // Whether `element` is one of a list, or one of the words of a text.
  virtual bool has(std::string_view name, std::string_view element) const = 0;

 protected:
  ~AttributeSource() = default;
};

// What the client has proved to be. Everything here is verified; what is not stays empty.
struct ClientIdentity {
  // Subject alternative names (DNS, URI) and the subject's common name of a certificate that the
  // listener's client_ca has signed.
  std::span<const std::string_view> certificate_names;
};

struct RequestView {
  IpAddress client;
  bool client_claimed = false;  // by a proxy: nobody has shaken hands as this
  std::optional<SocketAddress>
      destination;  // original; asked for by RouteTable::uses_destination()
  std::string_view method;
  std::string_view host;                        // as normalise_host() returns it
  std::string_view path;                        // normalised, without the query
  std::string_view query;                       // without the '?', as received
  const FieldSource* fields = nullptr;          // null: none
  const ClientIdentity* identity = nullptr;     // null: nobody proved anything
  const AttributeSource* attributes = nullptr;  // after phase auth; null: none
};

}  // namespace sluice::policy
