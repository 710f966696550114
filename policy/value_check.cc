#include "policy/value_check.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "policy/address.h"
#include "policy/host.h"
#include "policy/nearest_name.h"
#include "policy/units.h"

namespace sluice::policy {

std::string printable(std::string_view text) {
  constexpr std::size_t kShown = 60;
  std::size_t end = std::min(text.size(), kShown);
  while (end < text.size() && end > 0 && (text[end] & 0xc0) == 0x80)
    --end;
  std::string shown(text.substr(0, end));
  std::ranges::replace_if(
      shown, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return end < text.size() ? shown + "…" : shown;
}

std::string in_backticks(std::string_view text) {
  return "`" + printable(text) + "`";
}

namespace {

bool is_name(std::string_view text) {
  constexpr std::size_t kLongest = 63;
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  return !text.empty() && text.size() <= kLongest && plain(text[0]) &&
         std::ranges::all_of(text,
                             [&](char c) { return plain(c) || c == '.' || c == '_' || c == '-'; });
}

}  // namespace

Verdict check_name(const std::string& text) {
  if (is_name(text)) return {};
  return Problem{in_backticks(text) + " is not a name",
                 "letters, digits, `.`, `_` and `-`, at most 63, beginning with a letter or digit"};
}

namespace {

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

Verdict check_lines(const std::string& text) {
  const auto stray = [](char c) { return is_control(c) && c != '\n' && c != '\t'; };
  if (text.empty()) return Problem{"is empty", "leave it out or give a value"};
  if (std::ranges::any_of(text, stray))
    return Problem{"holds a control character", "plain text, line ends and tabs"};
  return {};
}

}  // namespace

Verdict check_text(const std::string& text) {
  if (text.empty()) return Problem{"is empty", "leave it out or give a value"};
  if (std::ranges::any_of(text, is_control))
    return Problem{"holds a control character", "plain text"};
  return {};
}

namespace {

std::string format_bound(Type type, std::int64_t bound) {
  return type == Type::duration ? format_duration(Duration(bound)) : std::to_string(bound);
}

Verdict in_range(const Field& field, double value, std::string_view text) {
  if (value >= static_cast<double>(field.min) && value <= static_cast<double>(field.max)) return {};
  const std::string low = format_bound(field.type, field.min);
  return Problem{in_backticks(text) + " is out of range",
                 field.min == field.max ? "it must be " + low
                                        : low + " to " + format_bound(field.type, field.max)};
}

Verdict check_integer(const Field& field, const std::string& text) {
  const auto value = parse_integer(text);
  if (!value) {
    return Problem{in_backticks(text) + " is not a whole number",
                   "such as " + std::string(field.example)};
  }
  return in_range(field, static_cast<double>(*value), text);
}

Verdict check_number(const Field& field, const std::string& text) {
  const auto value = parse_number(text);
  if (!value) return Problem{in_backticks(text) + " is not a number", "such as 1.5"};
  return in_range(field, *value, text);
}

Verdict check_duration(const Field& field, const std::string& text) {
  const auto value = parse_duration(text);
  if (value) return in_range(field, static_cast<double>(value->count()), text);
  if (parse_integer(text)) {
    const std::string_view like = field.fallback.empty() ? field.example : field.fallback;
    const std::string_view unit = like.substr(like.find_first_not_of("0123456789"));
    return Problem{
        in_backticks(text) + " has no unit",
        "did you mean `" + printable(text) + std::string(unit) + "`? Units: us, ms, s, m, h, d"};
  }
  return Problem{in_backticks(text) + " is not a duration",
                 "a whole number and us, ms, s, m, h or d, such as " + std::string(field.example)};
}

Verdict check_rate(const std::string& text) {
  constexpr std::uint64_t kFastest =
      1'000'000;  // per second: below, rounding to nanoseconds stays under 0.1 %
  const auto rate = parse_rate(text);
  if (!rate && parse_integer(text)) {
    return Problem{in_backticks(text) + " has no unit",
                   "did you mean `" + printable(text) + "/s`? Units: /s, /m, /h, /d"};
  }
  if (!rate) {
    return Problem{in_backticks(text) + " is not a rate",
                   "a whole number above 0 and /s, /m, /h or /d, such as 100/s"};
  }
  const auto seconds = static_cast<std::uint64_t>(rate->period / 1s);
  if (rate->count > kFastest * seconds) {
    return Problem{in_backticks(text) + " is out of range", "at most 1000000/s"};
  }
  return {};
}

Verdict check_prefix(const std::string& text) {
  if (Prefix::parse(text)) return {};
  const auto address = IpAddress::parse(std::string_view(text).substr(0, text.find('/')));
  const auto length = text.find('/') == std::string::npos
                          ? std::nullopt
                          : parse_integer(std::string_view(text).substr(text.find('/') + 1));
  if (address && length && *length <= address->bits()) {
    const Prefix network{address->masked(static_cast<int>(*length)),
                         static_cast<std::uint8_t>(*length)};
    return Problem{in_backticks(text) + " has bits set after its prefix",
                   "did you mean `" + network.to_string() + "`?"};
  }
  return Problem{in_backticks(text) + " is not an address or prefix",
                 "such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7"};
}

Verdict check_socket_address(const Field& field, const std::string& text) {
  const auto address = SocketAddress::parse(text);
  if (address && address->port != 0) return {};
  if (address) return Problem{in_backticks(text) + " has port 0", "1 to 65535"};
  if (IpAddress::parse(text)) {
    return Problem{in_backticks(text) + " has no port", text.find(':') == std::string::npos
                                                            ? "such as " + text + ":8080"
                                                            : "such as [" + text + "]:8080"};
  }
  // Where a name may stand instead, it is by another key.
  const bool named = field.excludes.find("dns") != std::string_view::npos;
  return Problem{in_backticks(text) + " is not an address with a port",
                 std::string("such as 192.0.2.10:8080 or \"[2001:db8::10]:8080\"; ") +
                     (named ? "a name is resolved by `{ dns: \"api.internal:8080\" }`"
                            : "names are not resolved")};
}

Verdict check_port(const std::string& text, bool range) {
  const auto ports = PortRange::parse(text);
  if (ports && ports->first != 0 && (range || ports->first == ports->last)) return {};
  return Problem{in_backticks(text) + (range ? " is not a port or port range" : " is not a port"),
                 range ? "1 to 65535, such as 443 or 8000-8999" : "1 to 65535"};
}

bool is_label(std::string_view label) {
  const auto part = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_';
  };
  return !label.empty() && label.size() <= 63 && std::ranges::all_of(label, part);
}

Verdict check_host(const std::string& text) {
  constexpr const char* kHint =
      "such as api.example.com, *.example.com or 192.0.2.7; without a port";
  std::string_view left = text;
  if (left.starts_with('[') && left.ends_with(']')) {
    if (normalise_host_pattern(left)) return {};
    return Problem{in_backticks(text) + " is not a host", kHint};
  }
  if (left.starts_with("*.")) left.remove_prefix(2);
  if (left.size() > 253 || left.empty())
    return Problem{in_backticks(text) + " is not a host", kHint};
  while (true) {
    const std::size_t dot = left.find('.');
    if (!is_label(left.substr(0, dot)))
      return Problem{in_backticks(text) + " is not a host", kHint};
    if (dot == std::string_view::npos) return {};
    left.remove_prefix(dot + 1);
  }
}

Verdict check_host_port(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  const std::string host = text.substr(0, colon);
  const auto port =
      colon == std::string::npos ? std::nullopt : PortRange::parse(text.substr(colon + 1));
  if (!port || port->first == 0 || port->first != port->last) {
    return Problem{in_backticks(text) + " has no port", "such as api.internal:8080"};
  }
  if (host.starts_with('*') || host.starts_with('[') || check_host(host)) {
    return Problem{in_backticks(text) + " is not a name with a port", "such as api.internal:8080"};
  }
  return {};
}

// In the form in which requests are matched: a pattern in any other form could never match.
Verdict check_path(const std::string& text) {
  if (!text.starts_with('/'))
    return Problem{in_backticks(text) + " is not a path", "it begins with `/`"};
  if (text.find_first_of("?#") != std::string::npos) {
    return Problem{in_backticks(text) + " holds a query or fragment",
                   "routes match the path alone"};
  }
  const bool printable = std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
  if (!printable)
    return Problem{in_backticks(text) + " is not a path", "escape other bytes as %XX"};
  const std::string closed = text + "/";
  for (const std::string_view part : {"//", "/./", "/../"}) {
    // A trailing slash alone is fine: it only looks like "//" once closed.
    const std::string& where = part == "//" ? text : closed;
    if (where.find(part) != std::string::npos) {
      return Problem{in_backticks(text) + " is not normalised",
                     "paths are matched without empty, `.` and `..` segments"};
    }
  }
  return {};
}

// What is asked for, not matched: as it is written.
Verdict check_request_target(const std::string& text) {
  if (!text.starts_with('/'))
    return Problem{in_backticks(text) + " is not a path", "it begins with `/`"};
  if (text.contains('#')) return Problem{in_backticks(text) + " holds a fragment", "leave it out"};
  const bool printable = std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
  if (!printable)
    return Problem{in_backticks(text) + " is not a path", "escape other bytes as %XX"};
  return {};
}

Verdict check_token(const std::string& text) {
  constexpr std::string_view kOther = "!#$%&'*+-.^_`|~";  // RFC 9110 section 5.6.2
  const auto part = [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kOther.find(c) != std::string_view::npos;
  };
  if (!text.empty() && text.size() <= 128 && std::ranges::all_of(text, part)) return {};
  return Problem{in_backticks(text) + " is not a name as HTTP has them",
                 "letters, digits and `-`, such as x-request-id"};
}

Verdict check_size(const Field& field, const std::string& text) {
  const auto value = parse_size(text);
  if (value) {
    if (*value >= static_cast<std::uint64_t>(field.min) &&
        *value <= static_cast<std::uint64_t>(field.max)) {
      return {};
    }
    return Problem{in_backticks(text) + " is out of range",
                   format_size(static_cast<std::uint64_t>(field.min)) + " to " +
                       format_size(static_cast<std::uint64_t>(field.max))};
  }
  if (parse_integer(text)) {
    return Problem{in_backticks(text) + " has no unit",
                   "did you mean `" + printable(text) + "B`? Units: B, KiB, MiB, GiB"};
  }
  return Problem{in_backticks(text) + " is not a size",
                 "a whole number and B, KiB, MiB or GiB, such as " + std::string(field.example)};
}

Verdict check_action(const std::string& text) {
  const auto status = parse_integer(text);
  if (status && (*status < 200 || *status > 599)) {
    return Problem{in_backticks(text) + " is not an HTTP status",
                   "200 to 599, or the name of an upstream"};
  }
  return status ? Verdict{} : check_name(text);
}

Verdict check_cgroup(const std::string& text) {
  const bool climbs = (text + "/").find("/../") != std::string::npos;
  if (text.starts_with('/') && text.size() > 1 && !climbs && !check_text(text)) return {};
  return Problem{in_backticks(text) + " is not a cgroup path",
                 "absolute below the cgroup2 root, such as /system.slice/app.service"};
}

Verdict check_boolean(const std::string& text) {
  if (parse_boolean(text)) return {};
  const bool yes = text == "yes" || text == "on" || text == "True" || text == "TRUE";
  const bool no = text == "no" || text == "off" || text == "False" || text == "FALSE";
  return Problem{in_backticks(text) + " is not true or false", yes  ? "did you mean `true`?"
                                                               : no ? "did you mean `false`?"
                                                                    : "true or false"};
}

}  // namespace

Verdict check_value(const Field& field, const std::string& text) {
  if (std::ranges::find(field.words, text) != field.words.end()) return {};
  switch (field.type) {
    case Type::word:
      return Problem{in_backticks(text) + " is not known", suggestion(text, field.words)};
    case Type::text:
      return field.lines ? check_lines(text) : check_text(text);
    case Type::name:
      return check_name(text);
    case Type::boolean:
      return check_boolean(text);
    case Type::integer:
      return check_integer(field, text);
    case Type::number:
      return check_number(field, text);
    case Type::duration:
      return check_duration(field, text);
    case Type::rate:
      return check_rate(text);
    case Type::percent:
      if (parse_percent(text)) return {};
      return Problem{in_backticks(text) + " is not a percentage", "0% to 100%, such as 20%"};
    case Type::share:
      if (parse_share(text)) return {};
      return Problem{in_backticks(text) + " is not a percentage", "0% to 100%, such as 0.5%"};
    case Type::prefix:
      return check_prefix(text);
    case Type::socket_address:
      return check_socket_address(field, text);
    case Type::host_port:
      return check_host_port(text);
    case Type::port:
      return check_port(text, false);
    case Type::port_range:
      return check_port(text, true);
    case Type::host:
      return check_host(text);
    case Type::path:
      return check_path(text);
    case Type::request_target:
      return check_request_target(text);
    case Type::cgroup:
      return check_cgroup(text);
    case Type::token:
      return check_token(text);
    case Type::size:
      return check_size(field, text);
    case Type::regex:
      return check_text(text);
    case Type::action:
      return check_action(text);
    case Type::ip_protocol:
      if (parse_ip_protocol(text)) return {};
      return Problem{in_backticks(text) + " is not an IP protocol",
                     "tcp, udp, sctp, icmp, icmpv6 or 0 to 255"};
    case Type::object:
      break;
  }
  return {};
}

}  // namespace sluice::policy
