#include "gateway/main/explain_question.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "gateway/http/forwarded.h"
#include "gateway/http1/field.h"
#include "gateway/http1/parse_error.h"
#include "gateway/http1/target.h"
#include "gateway/main/json_text.h"
#include "policy/policy_test.h"
#include "policy/units.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using policy::IpAddress;
using Problem = std::unexpected<std::string>;

constexpr std::array<std::string_view, policy::kWays> kWayWords{"bind", "local", "forward",
                                                                "output"};

// --- keys ---------------------------------------------------------------------------------------

enum class Type : std::uint8_t { text, port, protocol, flag, pairs, names };

struct Key {
  std::string_view name;
  Type type = Type::text;
  std::string_view option{};  // the command line's word for it, taken too
};
constexpr std::array kKeys{
    Key{"from"},
    Key{"from_port", Type::port},
    Key{"to"},
    Key{"to_port", Type::port, "port"},
    Key{"protocol", Type::protocol, "proto"},
    Key{"direction"},
    Key{"interface"},
    Key{"way"},
    Key{"cgroup"},
    Key{"fragment", Type::flag},
    Key{"method"},
    Key{"url"},
    Key{"host"},
    Key{"headers", Type::pairs},
    Key{"claims", Type::pairs},
    Key{"certificate_names", Type::names},
    Key{"listener"},
};
// What goes between processes beside the question itself.
constexpr std::array<std::string_view, 3> kWrappings{"command", "known_by", "logged"};

bool is_pair(const json::value& value) {
  const json::array* pair = value.if_array();
  return pair != nullptr && pair->size() == 2 &&
         std::ranges::all_of(*pair, &json::value::is_string);
}

bool is_number_to(std::int64_t most, const json::value& value) {
  return value.is_int64() && value.as_int64() >= 0 && value.as_int64() <= most;
}

// "": it is.
std::string_view not_of(Type type, const json::value& value) {
  const json::array* list = value.if_array();
  switch (type) {
    case Type::text:
      return value.is_string() ? "" : "text";
    case Type::port:
      return is_number_to(65535, value) ? "" : "a number, 0 to 65535";
    case Type::protocol:
      return value.is_string() || is_number_to(255, value) ? "" : "a name, or a number, 0 to 255";
    case Type::flag:
      return value.is_bool() ? "" : "true or false";
    case Type::pairs:
      return list && std::ranges::all_of(*list, is_pair) ? "" : "[[NAME, VALUE], ...]";
    case Type::names:
      return list && std::ranges::all_of(*list, &json::value::is_string) ? "" : "a list of names";
  }
  return "";
}

std::string unknown(std::string_view name) {
  std::string known;
  for (const Key& key : kKeys)
    known += (known.empty() ? "" : ", ") + std::string(key.option.empty() ? key.name : key.option);
  return "there is no " + json::serialize(json::string(name)) + "; known: " + known;
}

// Each by its own name, and of its type: what is not understood must not be left out of the answer.
std::expected<json::object, std::string> checked(const json::object& given) {
  json::object question;
  for (const auto& member : given) {
    const std::string_view name = member.key();
    if (std::ranges::find(kWrappings, name) != kWrappings.end()) {
      question[name] = member.value();
      continue;
    }
    const auto* const key = std::ranges::find_if(kKeys, [&](const Key& known) {
      return name == known.name || (!name.empty() && name == known.option);
    });
    if (key == kKeys.end()) return Problem(unknown(name));
    if (const std::string_view wanted = not_of(key->type, member.value()); !wanted.empty())
      return Problem(std::string(name) + ": " + std::string(wanted) + ", not " +
                     json::serialize(member.value()));
    if (question.contains(key->name))
      return Problem(std::string(key->name) + " and " + std::string(key->option) + " are the same");
    const bool number = key->type == Type::protocol && member.value().is_int64();
    question[key->name] =
        number ? json::value(std::to_string(member.value().as_int64())) : member.value();
  }
  return question;
}

// Of a source, nothing is asked but what is known of it.
std::string not_of_a_source(const json::object& question) {
  for (const Key& key : kKeys) {
    if (key.name != "from" && question.contains(key.name))
      return std::string(key.name) + ": nothing depends on it without `to` or `url`";
  }
  return "";
}

// --- their values -------------------------------------------------------------------------------

std::expected<IpAddress, std::string> address_of(const json::object& question,
                                                 std::string_view key) {
  const std::string text = text_of(question, key);
  const auto address = IpAddress::parse(text);
  if (address) return *address;
  return Problem(std::string(key) + ": '" + text + "' is not an address; write 192.0.2.1 or " +
                 "2001:db8::1");
}

std::uint16_t port_of(const json::object& question, std::string_view key) {
  const json::value* value = question.if_contains(key);
  return value == nullptr ? 0 : static_cast<std::uint16_t>(value->as_int64());
}

std::expected<std::optional<policy::Way>, std::string> way_of(const json::object& question) {
  const std::string word = text_of(question, "way");
  if (word.empty()) return std::nullopt;
  for (std::size_t i = 0; i < kWayWords.size(); ++i) {
    if (kWayWords[i] == word) return static_cast<policy::Way>(i);
  }
  return Problem("way: bind, local, forward or output, not '" + word + "'");
}

std::expected<policy::PacketDirection, std::string> direction_of(const json::object& question) {
  const std::string word = text_of(question, "direction");
  if (word.empty() || word == "ingress") return policy::PacketDirection::ingress;
  if (word == "egress") return policy::PacketDirection::egress;
  return Problem("direction: ingress or egress, not '" + word + "'");
}

std::expected<policy::PacketDescription, std::string> packet_of(const json::object& question) {
  policy::PacketDescription packet;
  const auto from = address_of(question, "from");
  const auto to = address_of(question, "to");
  const auto way = way_of(question);
  const auto direction = direction_of(question);
  for (const std::string* error :
       {from ? nullptr : &from.error(), to ? nullptr : &to.error(), way ? nullptr : &way.error(),
        direction ? nullptr : &direction.error()}) {
    if (error != nullptr) return Problem(*error);
  }
  if (from->is_v4() != to->is_v4()) return Problem("from and to are of two IP versions");
  const std::string protocol = text_of(question, "protocol");
  const auto number =
      protocol.empty() ? std::optional<std::uint8_t>(6) : policy::parse_ip_protocol(protocol);
  if (!number)
    return Problem("protocol: '" + protocol +
                   "' is none of tcp, udp, sctp, icmp, icmpv6, 0 to 255");
  packet.from = *from;
  packet.to = *to;
  packet.from_port = port_of(question, "from_port");
  packet.to_port = port_of(question, "to_port");
  packet.protocol = *number;
  packet.way = *way;
  packet.direction = *direction;
  packet.interface = text_of(question, "interface");
  packet.cgroup = text_of(question, "cgroup");
  const json::value* fragment = question.if_contains("fragment");
  packet.first_fragment = fragment == nullptr || !fragment->as_bool();
  return packet;
}

struct Url {
  std::string host;  // with its port, as a client sends it
  std::string target = "/";
};

bool is_http(std::string_view scheme) {
  return gateway::http1::equals_ignoring_case(scheme, "http") ||
         gateway::http1::equals_ignoring_case(scheme, "https");
}

std::expected<Url, std::string> split(const std::string& text) {
  Url url;
  std::string_view rest = text;
  if (!rest.starts_with('/')) {
    const std::size_t scheme = rest.find("://");
    if (!is_http(rest.substr(0, scheme)) || scheme == std::string_view::npos)
      return Problem("url: '" + text + "' is neither http://HOST/PATH nor /PATH");
    rest.remove_prefix(scheme + 3);
    const std::size_t end = std::min(rest.find_first_of("/?#"), rest.size());
    url.host = rest.substr(0, end);
    if (url.host.empty() || url.host.starts_with(':'))
      return Problem("url: '" + text + "' has no host");
    rest.remove_prefix(end);
  }
  rest = rest.substr(0, rest.find('#'));  // a fragment never leaves the client
  url.target = rest.starts_with('/') ? std::string(rest) : '/' + std::string(rest);
  return url;
}

// 0: the URL is a path, or what stands after its colon is no port.
std::uint16_t port_of_url(const std::string& text) {
  const auto url = split(text);
  if (!url || url->host.empty()) return 0;
  const std::size_t colon = url->host.rfind(':');
  if (colon == std::string::npos || url->host.ends_with(']'))
    return text.starts_with("https://") ? 443 : 80;
  std::uint16_t port = 0;
  std::from_chars(url->host.data() + colon + 1, url->host.data() + url->host.size(), port);
  return port;
}

// Pairs of name and value.
std::vector<std::pair<std::string, std::string>> pairs_of(const json::object& question,
                                                          std::string_view key) {
  std::vector<std::pair<std::string, std::string>> out;
  const json::value* pairs = question.if_contains(key);
  if (pairs == nullptr) return out;
  for (const json::value& pair : pairs->as_array())
    out.emplace_back(pair.as_array()[0].as_string(), pair.as_array()[1].as_string());
  return out;
}

std::expected<policy::RequestDescription, std::string> request_of(const json::object& question) {
  policy::RequestDescription request;
  const auto url = split(text_of(question, "url"));
  if (!url) return Problem(url.error());
  const auto target = normalised_target(url->target);
  if (!target) return Problem("url: the gateway answers 400: " + target.error());
  request.target = *target;
  request.host = url->host;
  if (const std::string method = text_of(question, "method"); !method.empty())
    request.method = method;
  request.headers = pairs_of(question, "headers");
  for (const auto& [name, value] : request.headers) {
    if (name == "Host" || name == "host") request.host = value;
  }
  request.claims = pairs_of(question, "claims");
  if (const json::value* names = question.if_contains("certificate_names")) {
    for (const json::value& name : names->as_array())
      request.certificate_names.emplace_back(name.as_string());
  }
  if (const std::string host = text_of(question, "host"); !host.empty()) request.host = host;
  request.listener = text_of(question, "listener");
  const auto way = way_of(question);
  if (!way) return Problem(way.error());
  request.way = way->value_or(policy::Way::bind);
  if (question.contains("from")) {
    const auto client = address_of(question, "from");
    if (!client) return Problem(client.error());
    request.client = *client;
  }
  if (question.contains("to")) {
    const auto to = address_of(question, "to");
    if (!to) return Problem(to.error());
    request.destination = policy::SocketAddress{*to, port_of(question, "to_port")};
  }
  return request;
}

std::string field_of(const policy::RequestDescription& request, std::string_view lower_name) {
  std::string joined;
  for (const auto& [name, value] : request.headers) {
    if (gateway::http1::equals_ignoring_case(name, lower_name))
      joined += (joined.empty() ? "" : ", ") + value;
  }
  return joined;
}

// A URL alone begins at the listener that is bound to its port, where there is one such.
void find_listener(const policy::Snapshot& snapshot, std::uint16_t port,
                   policy::RequestDescription& request) {
  if (!request.listener.empty() || port == 0) return;
  const policy::Listener* found = nullptr;
  for (const policy::Listener& listener : snapshot.config().listeners) {
    if (!listener.bind || listener.bind->port != port) continue;
    if (found != nullptr) return;
    found = &listener;
  }
  if (found != nullptr) request.listener = found->name;
}

// Whom a trusted proxy names in the field that the listener believes.
void find_claim(const policy::Snapshot& snapshot, std::uint32_t listener,
                const policy::IpAddress& peer, policy::RequestDescription& request) {
  const policy::Config& config = snapshot.config();
  if (!gateway::http::among(config.trusted_proxies, peer)) return;
  const bool forwarded = config.listeners[listener].client_from == policy::ClientFrom::forwarded;
  const std::string field = field_of(request, forwarded ? "forwarded" : "x-forwarded-for");
  const auto named = forwarded
                         ? gateway::http::client_in_forwarded(field, config.trusted_proxies)
                         : gateway::http::client_in_x_forwarded_for(field, config.trusted_proxies);
  if (!named.client) return;
  request.claim = {*named.client, std::string(forwarded ? "Forwarded" : "X-Forwarded-For") +
                                      " of the trusted proxy " + peer.to_string()};
}

json::object with_place(json::object object, const policy::Location& where) {
  if (where.line != 0) object["where"] = where.to_string();
  return object;
}

}  // namespace

std::expected<ExplainQuestion, std::string> parse_question(const json::object& given) {
  const auto known = checked(given);
  if (!known) return Problem(known.error());
  const json::object& question = *known;
  ExplainQuestion out;
  if (question.contains("from") && !question.contains("to") && !question.contains("url") &&
      !question.contains("method") && !question.contains("listener")) {
    const auto source = address_of(question, "from");
    if (!source) return Problem(source.error());
    if (std::string strange = not_of_a_source(question); !strange.empty())
      return Problem(std::move(strange));
    out.source = *source;
    if (text_of(question, "known_by") == "gateway") out.known_by = policy::KnownBy::gateway;
    return out;
  }
  const bool http = question.contains("url") || question.contains("method");
  // Without a listener the packet finds it.
  if (question.contains("to") && !question.contains("listener")) {
    auto packet = packet_of(question);
    if (!packet) return Problem(packet.error());
    out.packet = std::move(*packet);
  }
  if (http || question.contains("listener")) {
    auto request = request_of(http ? question : [&] {
      json::object path = question;
      path["url"] = "/";
      return path;
    }());
    if (!request) return Problem(request.error());
    if (http) {
      out.port = port_of_url(text_of(question, "url"));
      out.request = std::move(*request);
    } else {
      // A connection, from its listener on.
      request->method.clear();
      out.request = std::move(*request);
    }
  }
  if (!out.packet && !out.request) return Problem(kNothingToExplain);
  return out;
}

policy::Explanation explain(const policy::Snapshot& snapshot, const ExplainQuestion& question,
                            const policy::LiveState& live) {
  if (question.source)
    return policy::explain_source(snapshot, *question.source, question.known_by, live);
  std::optional<policy::RequestDescription> request = question.request;
  if (question.packet) {
    if (request) {
      const auto caught = policy::explain(snapshot, *question.packet, live);
      if (caught.listener) find_claim(snapshot, *caught.listener, question.packet->from, *request);
    }
    return policy::explain(snapshot, *question.packet, request ? &*request : nullptr, live);
  }
  find_listener(snapshot, question.port, *request);
  if (request->method.empty()) return policy::explain_connection(snapshot, *request, live);
  if (const auto listener = policy::listener_of(snapshot, request->listener))
    find_claim(snapshot, *listener, request->client, *request);
  return policy::explain(snapshot, *request, live);
}

std::expected<std::string, std::string> normalised_target(std::string_view target) {
  const std::size_t question = std::min(target.find('?'), target.size());
  const std::string path(target.substr(0, question));
  std::string scratch(path.size(), '\0');
  const auto normal = gateway::http1::normalise_path(path, scratch);
  if (!normal) return Problem(std::string(gateway::http1::reason(normal.error())));
  return std::string(*normal) + std::string(target.substr(question));
}

policy::Explanation malformed(const std::string& reason) {
  policy::Explanation explanation;
  explanation.outcome = "refused with 400: " + reason;
  explanation.steps.push_back({"head", explanation.outcome, {}, {}, true});
  explanation.passes = false;
  explanation.verdict = policy::Verdict::refuse;
  explanation.status = 400;
  return explanation;
}

json::object to_json(const policy::Snapshot& snapshot, const policy::Explanation& explanation) {
  json::array steps;
  for (const policy::Step& step : explanation.steps) {
    json::array reasons;
    for (const policy::Reason& reason : step.reasons)
      reasons.push_back(with_place({{"text", reason.text}}, reason.where));
    json::object entry{{"phase", step.phase}, {"verdict", step.verdict}};
    if (!step.name.empty()) entry["name"] = step.name;
    entry["reasons"] = std::move(reasons);
    steps.push_back(with_place(std::move(entry), step.where));
  }
  json::object out{{"ok", true},
                   {"verdict", policy::word_of(explanation.verdict)},
                   {"outcome", explanation.outcome},
                   {"passes", explanation.passes}};
  if (explanation.status != 0) out["status"] = explanation.status;
  if (explanation.listener) {
    out["listener"] = snapshot.config().listeners[*explanation.listener].name;
    out["way"] = kWayWords[static_cast<std::size_t>(explanation.way)];
  }
  out["steps"] = std::move(steps);
  return out;
}

json::object rest_of(const json::object& question, const policy::Snapshot& snapshot,
                     const policy::Explanation& so_far) {
  json::object rest = question;
  rest["listener"] = snapshot.config().listeners[*so_far.listener].name;
  rest["way"] = kWayWords[static_cast<std::size_t>(so_far.way)];
  const auto protocol = snapshot.config().listeners[*so_far.listener].protocol;
  if (protocol == policy::ListenerProtocol::tcp || protocol == policy::ListenerProtocol::tls) {
    // What is left of a URL is the name that is asked for in TLS.
    if (const auto asked = parse_question(question); asked && asked->request)
      rest["host"] = asked->request->host;
    rest.erase("url");
    rest.erase("method");
  }
  return rest;
}

json::object rest_of_source(const json::object& question) {
  json::object rest = question;
  rest["known_by"] = "gateway";
  return rest;
}

json::object joined(json::object first, const json::object& rest) {
  // What is only caught is as the packet's steps have it.
  const bool adds = rest.at("verdict") != "caught" && rest.at("verdict") != "pass";
  json::object out = adds ? rest : first;
  if (rest.at("verdict") == "pass")
    out["outcome"] = std::string(first.at("outcome").as_string()) + "; " +
                     std::string(rest.at("outcome").as_string());
  json::array steps = first["steps"].as_array();
  for (const auto& step : rest.at("steps").as_array())
    steps.push_back(step);
  out["steps"] = std::move(steps);
  return out;
}

}  // namespace sluice::control
