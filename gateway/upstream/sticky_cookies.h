// Session stickiness by a signed cookie. Its value is an HMAC of the endpoint's name under the
// policy's key: clients learn nothing of the endpoint and cannot make one up, every node that has
// the key understands it, and a request costs one look-up.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <boost/unordered/unordered_flat_map.hpp>

#include "policy/config.h"

namespace sluice::gateway {

// Of one set of endpoints. Immutable.
class StickyCookies {
 public:
  // `endpoints`: names, as Cluster::endpoints(). `config.key` is the key itself; one that is too
  // short is said in the log, and a key of this process signs, so that stickiness ends with it.
  StickyCookies(const policy::Sticky& config, std::string_view upstream,
                std::span<const std::string_view> endpoints);

  const std::string& name() const { return config_.cookie; }
  // Index of the endpoint that a cookie's value names; nullopt: none of ours.
  std::optional<std::uint32_t> find(std::string_view value) const;
  // "NAME=VALUE; Path=/; HttpOnly; SameSite=Lax[; Max-Age=…]", ready for Set-Cookie.
  const std::string& set_cookie(std::uint32_t endpoint) const { return lines_[endpoint]; }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };

  policy::Sticky config_;
  boost::unordered_flat_map<std::string, std::uint32_t, Hash, std::equal_to<>> by_value_;
  std::vector<std::string> lines_;
};

// The value of the first cookie `name` in a Cookie field (RFC 6265 section 4.2.1), without quotes.
std::optional<std::string_view> cookie_value(std::string_view field, std::string_view name);

}  // namespace sluice::gateway
