#include "policy/schema_check.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/address.h"
#include "policy/host.h"
#include "policy/nearest_name.h"
#include "policy/regex.h"
#include "policy/units.h"

namespace sluice::policy {

namespace {

const Field* child_of(const Field& field, std::string_view name) {
  const auto found = std::ranges::find(field.children, name, &Field::name);
  return found == field.children.end() ? nullptr : &*found;
}

std::vector<std::string_view> names_of(std::span<const Field> fields) {
  std::vector<std::string_view> names;
  for (const Field& field : fields)
    names.push_back(field.name);
  return names;
}

// Short and on one line, whatever the file holds; never half a UTF-8 character.
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

std::string quoted(std::string_view text) {
  return "`" + printable(text) + "`";
}

std::string within(std::string_view path) {
  return path.empty() ? "the policy" : std::string(path);
}

std::string join(std::string_view path, std::string_view name) {
  return path.empty() ? printable(name) : std::string(path) + "." + printable(name);
}

// --- single values
// ---------------------------------------------------------------------------------

struct Problem {
  std::string what;  // continues "listeners.web.bind: "
  std::string hint;
};
using Verdict = std::optional<Problem>;

std::string format_bound(Type type, std::int64_t bound) {
  return type == Type::duration ? format_duration(Duration(bound)) : std::to_string(bound);
}

Verdict in_range(const Field& field, double value, std::string_view text) {
  if (value >= static_cast<double>(field.min) && value <= static_cast<double>(field.max)) return {};
  const std::string low = format_bound(field.type, field.min);
  return Problem{quoted(text) + " is out of range",
                 field.min == field.max ? "it must be " + low
                                        : low + " to " + format_bound(field.type, field.max)};
}

Verdict check_integer(const Field& field, const std::string& text) {
  const auto value = parse_integer(text);
  if (!value) {
    return Problem{quoted(text) + " is not a whole number",
                   "such as " + std::string(field.example)};
  }
  return in_range(field, static_cast<double>(*value), text);
}

Verdict check_number(const Field& field, const std::string& text) {
  const auto value = parse_number(text);
  if (!value) return Problem{quoted(text) + " is not a number", "such as 1.5"};
  return in_range(field, *value, text);
}

Verdict check_duration(const Field& field, const std::string& text) {
  const auto value = parse_duration(text);
  if (value) return in_range(field, static_cast<double>(value->count()), text);
  if (parse_integer(text)) {
    const std::string_view like = field.fallback.empty() ? field.example : field.fallback;
    const std::string_view unit = like.substr(like.find_first_not_of("0123456789"));
    return Problem{
        quoted(text) + " has no unit",
        "did you mean `" + printable(text) + std::string(unit) + "`? Units: us, ms, s, m, h, d"};
  }
  return Problem{quoted(text) + " is not a duration",
                 "a whole number and us, ms, s, m, h or d, such as " + std::string(field.example)};
}

Verdict check_rate(const std::string& text) {
  constexpr std::uint64_t kFastest =
      1'000'000;  // per second: below, rounding to nanoseconds stays under 0.1 %
  const auto rate = parse_rate(text);
  if (!rate && parse_integer(text)) {
    return Problem{quoted(text) + " has no unit",
                   "did you mean `" + printable(text) + "/s`? Units: /s, /m, /h, /d"};
  }
  if (!rate) {
    return Problem{quoted(text) + " is not a rate",
                   "a whole number above 0 and /s, /m, /h or /d, such as 100/s"};
  }
  const auto seconds = static_cast<std::uint64_t>(rate->period / 1s);
  if (rate->count > kFastest * seconds) {
    return Problem{quoted(text) + " is out of range", "at most 1000000/s"};
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
    return Problem{quoted(text) + " has bits set after its prefix",
                   "did you mean `" + network.to_string() + "`?"};
  }
  return Problem{quoted(text) + " is not an address or prefix",
                 "such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7"};
}

Verdict check_socket_address(const Field& field, const std::string& text) {
  const auto address = SocketAddress::parse(text);
  if (address && address->port != 0) return {};
  if (address) return Problem{quoted(text) + " has port 0", "1 to 65535"};
  if (IpAddress::parse(text)) {
    return Problem{quoted(text) + " has no port", text.find(':') == std::string::npos
                                                      ? "such as " + text + ":8080"
                                                      : "such as [" + text + "]:8080"};
  }
  // Where a name may stand instead, it is by another key.
  const bool named = field.excludes.find("dns") != std::string_view::npos;
  return Problem{quoted(text) + " is not an address with a port",
                 std::string("such as 192.0.2.10:8080 or \"[2001:db8::10]:8080\"; ") +
                     (named ? "a name is resolved by `{ dns: \"api.internal:8080\" }`"
                            : "names are not resolved")};
}

Verdict check_port(const std::string& text, bool range) {
  const auto ports = PortRange::parse(text);
  if (ports && ports->first != 0 && (range || ports->first == ports->last)) return {};
  return Problem{quoted(text) + (range ? " is not a port or port range" : " is not a port"),
                 range ? "1 to 65535, such as 443 or 8000-8999" : "1 to 65535"};
}

bool is_name(std::string_view text) {
  constexpr std::size_t kLongest = 63;
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  return !text.empty() && text.size() <= kLongest && plain(text[0]) &&
         std::ranges::all_of(text,
                             [&](char c) { return plain(c) || c == '.' || c == '_' || c == '-'; });
}

Verdict check_name(const std::string& text) {
  if (is_name(text)) return {};
  return Problem{quoted(text) + " is not a name",
                 "letters, digits, `.`, `_` and `-`, at most 63, beginning with a letter or digit"};
}

Verdict check_text(const std::string& text) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (text.empty()) return Problem{"is empty", "leave it out or give a value"};
  if (std::ranges::any_of(text, control)) return Problem{"holds a control character", "plain text"};
  return {};
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
    return Problem{quoted(text) + " is not a host", kHint};
  }
  if (left.starts_with("*.")) left.remove_prefix(2);
  if (left.size() > 253 || left.empty()) return Problem{quoted(text) + " is not a host", kHint};
  while (true) {
    const std::size_t dot = left.find('.');
    if (!is_label(left.substr(0, dot))) return Problem{quoted(text) + " is not a host", kHint};
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
    return Problem{quoted(text) + " has no port", "such as api.internal:8080"};
  }
  if (host.starts_with('*') || host.starts_with('[') || check_host(host)) {
    return Problem{quoted(text) + " is not a name with a port", "such as api.internal:8080"};
  }
  return {};
}

// In the form in which requests are matched: a pattern in any other form could never match.
Verdict check_path(const std::string& text) {
  if (!text.starts_with('/')) return Problem{quoted(text) + " is not a path", "it begins with `/`"};
  if (text.find_first_of("?#") != std::string::npos) {
    return Problem{quoted(text) + " holds a query or fragment", "routes match the path alone"};
  }
  const bool printable = std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
  if (!printable) return Problem{quoted(text) + " is not a path", "escape other bytes as %XX"};
  const std::string closed = text + "/";
  for (const std::string_view part : {"//", "/./", "/../"}) {
    // A trailing slash alone is fine: it only looks like "//" once closed.
    const std::string& where = part == "//" ? text : closed;
    if (where.find(part) != std::string::npos) {
      return Problem{quoted(text) + " is not normalised",
                     "paths are matched without empty, `.` and `..` segments"};
    }
  }
  return {};
}

Verdict check_token(const std::string& text) {
  constexpr std::string_view kOther = "!#$%&'*+-.^_`|~";  // RFC 9110 section 5.6.2
  const auto part = [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kOther.find(c) != std::string_view::npos;
  };
  if (!text.empty() && text.size() <= 128 && std::ranges::all_of(text, part)) return {};
  return Problem{quoted(text) + " is not a name as HTTP has them",
                 "letters, digits and `-`, such as x-request-id"};
}

Verdict check_size(const Field& field, const std::string& text) {
  const auto value = parse_size(text);
  if (value) {
    if (*value >= static_cast<std::uint64_t>(field.min) &&
        *value <= static_cast<std::uint64_t>(field.max)) {
      return {};
    }
    return Problem{quoted(text) + " is out of range",
                   format_size(static_cast<std::uint64_t>(field.min)) + " to " +
                       format_size(static_cast<std::uint64_t>(field.max))};
  }
  if (parse_integer(text)) {
    return Problem{quoted(text) + " has no unit",
                   "did you mean `" + printable(text) + "B`? Units: B, KiB, MiB, GiB"};
  }
  return Problem{quoted(text) + " is not a size",
                 "a whole number and B, KiB, MiB or GiB, such as " + std::string(field.example)};
}

Verdict check_action(const std::string& text) {
  const auto status = parse_integer(text);
  if (status && (*status < 200 || *status > 599)) {
    return Problem{quoted(text) + " is not an HTTP status",
                   "200 to 599, or the name of an upstream"};
  }
  return status ? Verdict{} : check_name(text);
}

Verdict check_cgroup(const std::string& text) {
  const bool climbs = (text + "/").find("/../") != std::string::npos;
  if (text.starts_with('/') && text.size() > 1 && !climbs && !check_text(text)) return {};
  return Problem{quoted(text) + " is not a cgroup path",
                 "absolute below the cgroup2 root, such as /system.slice/app.service"};
}

Verdict check_boolean(const std::string& text) {
  if (parse_boolean(text)) return {};
  const bool yes = text == "yes" || text == "on" || text == "True" || text == "TRUE";
  const bool no = text == "no" || text == "off" || text == "False" || text == "FALSE";
  return Problem{quoted(text) + " is not true or false", yes  ? "did you mean `true`?"
                                                         : no ? "did you mean `false`?"
                                                              : "true or false"};
}

Verdict check_value(const Field& field, const std::string& text) {
  if (std::ranges::find(field.words, text) != field.words.end()) return {};
  switch (field.type) {
    case Type::word:
      return Problem{quoted(text) + " is not known", suggestion(text, field.words)};
    case Type::text:
      return check_text(text);
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
      return Problem{quoted(text) + " is not a percentage", "0% to 100%, such as 20%"};
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
      return Problem{quoted(text) + " is not an IP protocol",
                     "tcp, udp, sctp, icmp, icmpv6 or 0 to 255"};
    case Type::object:
      break;
  }
  return {};
}

// --- trees
// -----------------------------------------------------------------------------------------

class Checker {
 public:
  Checker(const Node& root, Reporter& reporter) : root_(root), reporter_(reporter) {}

  void field(const Node& node, const Field& field, const std::string& path) {
    if (reporter_.full()) return;
    switch (field.shape) {
      case Shape::one:
        return value(node, field, path);
      case Shape::list:
        return list(node, field, path);
      case Shape::map:
        return entries(node, field, path);
    }
  }

 private:
  void value(const Node& node, const Field& field, const std::string& path) {
    if (field.type == Type::object) return object(node, field, path);
    if (node.kind != Node::Kind::scalar) {
      reporter_.error(node.kind == Node::Kind::null ? node.where() : node.at,
                      node.kind == Node::Kind::null
                          ? path + " has no value"
                          : path + " is a single value, not a " + kind_name(node),
                      field.example.empty() ? "" : "such as " + std::string(field.example));
      return;
    }
    if (const Verdict problem = check_value(field, node.text)) {
      reporter_.error(node.at, path + ": " + problem->what, problem->hint);
    } else if (field.type == Type::regex) {
      regex(node, path);
    } else if (!field.refers.empty() && !parse_integer(node.text)) {
      reference(node, field, path);
    }
  }

  void regex(const Node& node, const std::string& path) {
    const auto compiled = Regex::compile(node.text);
    if (!compiled) {
      reporter_.error(node.at,
                      path + ": " + quoted(node.text) +
                          " is not a regular expression: " + printable(compiled.error()),
                      "RE2's syntax: no look-around, no back-references");
      return;
    }
    const bool fitted = regex_cost_ <= Regex::kMaxTotalCost;
    regex_cost_ += compiled->cost();
    if (!fitted || regex_cost_ <= Regex::kMaxTotalCost) return;
    reporter_.error(node.at, path + ": the policy's regular expressions are too large in all",
                    "simpler ones; prefixes and exact paths cost nothing");
  }

  void reference(const Node& node, const Field& field, const std::string& path) {
    const auto& known = names_in(field.refers);
    if (std::ranges::binary_search(known, std::string_view(node.text))) return;
    if (field.refers == "upstreams" && node.text == kOriginalDestination) return;  // implicit
    std::string kind(field.refers);
    if (kind.ends_with('s')) kind.pop_back();
    reporter_.error(node.at, path + ": there is no " + kind + " " + quoted(node.text),
                    known.empty() ? "the policy has no " + std::string(field.refers)
                                  : suggestion(node.text, known));
  }

  // The names that the policy gives in a top-level map, sorted.
  const std::vector<std::string_view>& names_in(std::string_view map) {
    const auto [found, fresh] = names_.try_emplace(map);
    if (!fresh) return found->second;
    if (const Node* node = root_.find(map)) {
      for (const Node& entry : node->children)
        found->second.push_back(entry.key);
    }
    std::ranges::sort(found->second);
    const auto repeats = std::ranges::unique(found->second);
    found->second.erase(repeats.begin(), repeats.end());
    return found->second;
  }

  void object(const Node& node, const Field& field, const std::string& path) {
    if (node.kind == Node::Kind::scalar && !field.shorthand.empty()) {
      return value(node, *child_of(field, field.shorthand), path);
    }
    if (node.kind == Node::Kind::scalar || node.kind == Node::Kind::list) {
      reporter_.error(node.at, within(path) + " is a map of keys, not a " + kind_name(node),
                      suggestion("", names_of(field.children)));
      return;
    }
    repeated(node, path);
    std::vector<std::string_view> misspelt;
    for (const Node& entry : node.children) {
      if (reporter_.full()) return;
      if (const Field* known = child_of(field, entry.key)) {
        excluded(node, entry, *known, path);
        this->field(entry, *known, join(path, entry.key));
      } else {
        const auto names = names_of(field.children);
        misspelt.push_back(nearest_name(entry.key, names));
        reporter_.error(entry.key_at, "unknown key " + quoted(entry.key) + " in " + within(path),
                        suggestion(entry.key, names));
      }
    }
    missing(node, field, path, misspelt);
    if (field.choice && node.children.empty()) {
      std::string names;
      for (const Field& child : field.children) {
        const bool last = &child == &field.children.back();
        names += (names.empty() ? "" : last ? " or " : ", ") + quoted(child.name);
      }
      reporter_.error(node.at, within(path) + " is empty", names);
    }
  }

  void excluded(const Node& node, const Node& entry, const Field& field, const std::string& path) {
    std::string_view left = field.excludes;
    while (!left.empty()) {
      const std::size_t end = std::min(left.find(' '), left.size());
      const std::string_view other = left.substr(0, end);
      left.remove_prefix(std::min(end + 1, left.size()));
      const Node* beside = node.find(other);
      if (!beside) continue;
      reporter_.error(
          entry.key_at,
          quoted(entry.key) + " and " + quoted(other) + " cannot both stand in " + within(path),
          "the other at " + reporter_.locate(beside->key_at).to_string());
    }
  }

  // A required key that was only misspelt is one mistake, not two.
  void missing(const Node& node, const Field& field, const std::string& path,
               const std::vector<std::string_view>& misspelt) {
    for (const Field& child : field.children) {
      if (!child.required || node.find(child.name)) continue;
      if (std::ranges::find(misspelt, child.name) != misspelt.end()) continue;
      reporter_.error(
          node.where(), within(path) + " needs " + quoted(child.name),
          "such as `" + std::string(child.name) + ": " + std::string(child.example) + "`");
    }
  }

  void repeated(const Node& node, const std::string& path) {
    std::unordered_map<std::string_view, Place> seen;
    for (const Node& entry : node.children) {
      const auto [first, added] = seen.emplace(entry.key, entry.key_at);
      if (added) continue;
      if (reporter_.full()) return;
      reporter_.error(entry.key_at, quoted(entry.key) + " is set twice in " + within(path),
                      "first at " + reporter_.locate(first->second).to_string());
    }
  }

  void list(const Node& node, const Field& field, const std::string& path) {
    const bool word = node.kind == Node::Kind::scalar &&
                      std::ranges::find(field.words, node.text) != field.words.end();
    if (node.kind == Node::Kind::map && field.choice) return value(node, field, path);
    if (word && field.type != Type::word) return;
    // Nothing, or an empty list, would quietly mean any.
    const bool needs_some =
        field.required || field.choice || (field.type != Type::object && field.fallback.empty());
    const std::string what_to_do =
        field.required ? "such as " + std::string(field.example) : "leave it out to mean any";
    if (node.kind == Node::Kind::null) {
      if (needs_some) reporter_.error(node.where(), path + " has no value", what_to_do);
      return;
    }
    if (node.kind != Node::Kind::list) {
      reporter_.error(node.at, path + " is a list, not a " + kind_name(node),
                      node.kind == Node::Kind::scalar
                          ? "did you mean `[" + printable(node.text) + "]`?"
                          : "such as " + std::string(field.example));
      return;
    }
    if (node.children.empty() && needs_some)
      reporter_.error(node.at, path + " is an empty list", what_to_do);
    Field element = field;
    if (field.type != Type::word) element.words = {};
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      value(node.children[i], element, path + "[" + std::to_string(i) + "]");
    }
  }

  void entries(const Node& node, const Field& field, const std::string& path) {
    if (node.kind == Node::Kind::null) return;
    if (node.kind != Node::Kind::map) {
      reporter_.error(node.at, path + " is a map of names, not a " + kind_name(node),
                      "such as " + std::string(field.example));
      return;
    }
    repeated(node, path);
    for (const Node& entry : node.children) {
      const Verdict problem = field.free_names ? check_text(entry.key) : check_name(entry.key);
      if (problem) {
        reporter_.error(entry.key_at, path + ": " + problem->what, problem->hint);
      }
      value(entry, field, join(path, entry.key));
    }
  }

  static std::string kind_name(const Node& node) {
    switch (node.kind) {
      case Node::Kind::null:
        return "nothing";
      case Node::Kind::scalar:
        return "single value";
      case Node::Kind::list:
        return "list";
      case Node::Kind::map:
        return "map";
    }
    return "";
  }

  const Node& root_;
  Reporter& reporter_;
  std::size_t regex_cost_ = 0;  // of all so far
  std::unordered_map<std::string_view, std::vector<std::string_view>> names_;
};

void append(Node& into, Node&& more) {
  std::ranges::move(more.children, std::back_inserter(into.children));
}

bool mergeable(const Node& a, const Node& b, const Field& field) {
  if (field.shape == Shape::list) return a.kind == Node::Kind::list && b.kind == Node::Kind::list;
  const bool maps = a.kind == Node::Kind::map && b.kind == Node::Kind::map;
  return maps && (field.shape == Shape::map || field.type == Type::object);
}

}  // namespace

void merge(Node& into, Node&& more, const Field& field) {
  const std::size_t before = into.children.size();
  for (Node& entry : more.children) {
    const auto old = std::ranges::find(into.children.begin(),
                                       into.children.begin() + static_cast<std::ptrdiff_t>(before),
                                       entry.key, &Node::key);
    const Field* known = child_of(field, entry.key);
    const bool both = old != into.children.begin() + static_cast<std::ptrdiff_t>(before);
    if (!both || !known) {
      into.children.push_back(std::move(entry));
    } else if (old->kind == Node::Kind::null) {
      *old = std::move(entry);
    } else if (entry.kind == Node::Kind::null ||
               (known->required && old->text == entry.text && entry.kind == Node::Kind::scalar)) {
      continue;  // each file may say `version: 1`
    } else if (!mergeable(*old, entry, *known)) {
      into.children.push_back(std::move(entry));
    } else if (known->shape == Shape::one) {
      merge(*old, std::move(entry), *known);
    } else {
      append(*old, std::move(entry));
    }
  }
}

void check(const Node& root, const Field& field, Reporter& reporter) {
  Checker(root, reporter).field(root, field, "");
}

}  // namespace sluice::policy
