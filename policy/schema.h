// Every field of the policy file, in one table: what the parser checks against, and what
// documentation is made from.
//
// The binder (config_builder.cc) fills config.h from the same keys; tests hold the two together:
// each field's `fallback` must mean the same as leaving it out, and each `example` must change the
// configuration.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

namespace sluice::policy {

// What one value is.
enum class Type : std::uint8_t {
  object,          // a map with the known keys `children`
  text,            // anything but empty
  name,            // letters, digits, '.', '_', '-'; at most 63; begins with a letter or digit
  word,            // one of `words`
  boolean,         // true | false
  integer,         // min to max
  number,          // min to max, decimals allowed
  duration,        // with a unit; min and max in nanoseconds
  rate,            // count/s, count/m, count/h
  percent,         // 0% to 100%
  share,           // the same with fractions: 0.1%
  prefix,          // CIDR or address
  socket_address,  // address:port
  host_port,       // name:port
  port,            // 1 to 65535
  port_range,      // 443 or 8000-8999, of 1 to 65535
  host,            // api.example.com or *.example.com
  path,            // begins with '/', normalised
  request_target,  // begins with '/', as it is sent, perhaps with a query
  token,           // a header field's name or a method (RFC 9110 section 5.6.2)
  regex,           // RE2's syntax
  size,            // bytes, with a unit: B, KiB, MiB, GiB
  cgroup,          // absolute path below the cgroup2 root
  action,          // an HTTP status (200 to 599) or the name of an upstream
  ip_protocol,     // tcp, udp, sctp, icmp, icmpv6, or 0 to 255
};

enum class Shape : std::uint8_t {
  one,
  list,
  map,  // named entries: name -> value
};

struct Field {
  std::string_view name;
  Type type = Type::object;
  Shape shape = Shape::one;
  std::string_view
      fallback{};  // what is meant when it is left out, as one would write it; "": nothing
  std::string_view example{};  // a value in flow style, other than the fallback
  std::int64_t min = 0;
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
  std::span<const std::string_view>
      words{};  // Type::word: the values; else words accepted instead of a value
  std::span<const Field> children{};  // Type::object
  std::string_view refers{};     // the top-level map that must have this name (Type::name, action)
  std::string_view shorthand{};  // the child that a bare value stands for
  bool choice = false;  // Type::object: one of the children is there, no more; in a list, a lone
                        // element may stand without brackets
  bool free_names = false;  // Shape::map: names are any text, not Type::name
  std::string_view excludes{};  // keys beside it that it cannot stand with, separated by spaces
  bool required = false;
  bool lines = false;  // Type::text: of several lines, and tabs in them
  std::string_view doc{};
};

// The root object.
const Field& schema();

// Words in the order of their enumerators in config.h.
inline constexpr std::array<std::string_view, 2> kOnExitWords{"closed", "bypass"};
inline constexpr std::array<std::string_view, 3> kSteerByWords{"auto", "sk_lookup", "tproxy"};
inline constexpr std::array<std::string_view, 4> kSteerForwardByWords{"auto", "sk_lookup", "tproxy",
                                                                      "tc"};
inline constexpr std::array<std::string_view, 3> kOnChangeWords{"keep", "drain", "reset"};
inline constexpr std::array<std::string_view, 2> kQuicWords{"pass", "block"};
inline constexpr std::array<std::string_view, 4> kListenerProtocolWords{"http", "tcp", "auto",
                                                                        "tls"};
inline constexpr std::array<std::string_view, 3> kUpstreamProtocolWords{"auto", "http1", "http2"};
inline constexpr std::array<std::string_view, 2> kSourceAddressWords{"gateway", "client"};
inline constexpr std::array<std::string_view, 3> kExpressWords{"none", "upstream", "both"};
inline constexpr std::array<std::string_view, 3> kAddressFamilyWords{"any", "ipv4", "ipv6"};
inline constexpr std::array<std::string_view, 5> kLbPolicyWords{"round_robin", "least_request",
                                                                "random", "peak_ewma", "maglev"};
inline constexpr std::array<std::string_view, 12> kRetryOnWords{"connect_failure",
                                                                "reset",
                                                                "502",
                                                                "503",
                                                                "504",
                                                                "429",
                                                                "500",
                                                                "cancelled",
                                                                "deadline_exceeded",
                                                                "internal",
                                                                "resource_exhausted",
                                                                "unavailable"};  // bits 0 to 11
inline constexpr std::array<std::string_view, 6> kLimitKeyWords{
    "client_ip", "route", "method", "host", "destination", "identity"};
inline constexpr std::array<std::string_view, 4> kLimitUnitWords{"requests", "connections",
                                                                 "concurrency", "tokens"};
inline constexpr std::array<std::string_view, 3> kLimitActionWords{"reject", "delay", "count"};
inline constexpr std::array<std::string_view, 2> kLimitScopeWords{"per_node", "cluster"};
inline constexpr std::array<std::string_view, 3> kOnLossWords{"share", "deny", "per_node"};
inline constexpr std::array<std::string_view, 2> kBanActionWords{"drop", "route"};
inline constexpr std::array<std::string_view, 5> kBanEventWords{
    "access_denied", "http2_abuse", "malformed_request", "auth_failure", "tls_handshake"};
inline constexpr std::array<std::string_view, 2> kBanModeWords{"enforce", "audit"};
inline constexpr std::array<std::string_view, 3> kGuardActionWords{"drop", "count", "limit"};
inline constexpr std::array<std::string_view, 3> kGuardAttachWords{"tc", "xdp", "xdp-generic"};
inline constexpr std::array<std::string_view, 3> kGuardDirectionWords{"ingress", "egress", "both"};
inline constexpr std::array<std::string_view, 2> kGuardModeWords{"enforce", "audit"};
inline constexpr std::array<std::string_view, 2> kGuardMonitorWords{"service", "source"};
inline constexpr std::array<std::string_view, 2> kGuardPositionWords{"first", "last"};
inline constexpr std::array<std::string_view, 3> kSetFormatWords{"cidr", "netset", "spamhaus-drop"};
inline constexpr std::array<std::string_view, 3> kLogFormatWords{"json", "text", "none"};
inline constexpr std::array<std::string_view, 2> kTlsVersionWords{"1.2", "1.3"};
inline constexpr std::array<std::string_view, 2> kAlpnWords{"h2", "http/1.1"};
inline constexpr std::array<std::string_view, 3> kClientAuthWords{"none", "optional", "required"};
inline constexpr std::array<std::string_view, 4> kAcceptProxyProtocolWords{"none", "v1", "v2",
                                                                           "any"};
inline constexpr std::array<std::string_view, 3> kSendProxyProtocolWords{"none", "v1", "v2"};
inline constexpr std::array<std::string_view, 3> kVerifyAuthorityWords{"none", "audit", "strict"};
inline constexpr std::array<std::string_view, 2> kClientFromWords{"x_forwarded_for", "forwarded"};
inline constexpr std::array<std::string_view, 3> kForwardedWords{"x_forwarded", "forwarded",
                                                                 "both"};
inline constexpr std::array<std::string_view, 3> kRequestIdWords{"none", "forward", "return"};
inline constexpr std::array<std::string_view, 2> kTraceContextWords{"pass", "start"};
inline constexpr std::string_view kSystemCa = "system";
inline constexpr std::string_view kAutoSni = "auto";
inline constexpr std::string_view kOriginalDestination = "original_destination";

}  // namespace sluice::policy
