// The meaning of a policy in one number. Every field of config.h but places must pass through here;
// a test sets each field of the schema and expects another number.
#include <algorithm>
#include <bit>
#include <concepts>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>

#include "policy/changes.h"
#include "policy/pod_owners.h"
#include "policy/routing.h"
#include "policy/siphash.h"
#include "policy/snapshot.h"

namespace sluice::policy {

namespace {

constexpr HashKey kFingerprintKey{0x736c756963652d66, 0x696e676572707274};

// Appends values to a byte string, each with its length where that varies, so that no two
// configurations read alike.
class FingerprintWriter {
 public:
  const std::string& bytes() const { return bytes_; }

  template <typename... T>
  void all(const T&... values) {
    (add(values), ...);
  }
  // Order has no meaning: sorted by what each element writes.
  template <typename T>
  void unordered(const std::vector<T>& values) {
    std::vector<std::string> parts;
    for (const T& value : values) {
      FingerprintWriter part;
      part.add(value);
      parts.push_back(part.bytes_);
    }
    std::ranges::sort(parts);
    add(parts);
  }
  // The order of regular expressions, and of routes in one place that are equally specific: as
  // RouteTable has it, the first of the file decides.
  void add_order(const std::vector<Route>& routes) {
    using Host = std::pair<std::string, std::string>;  // of a listener
    std::map<Host, std::vector<std::string>> regexes;
    std::map<std::tuple<Host, PathMatch::Kind, std::string>, std::vector<const Route*>> places;
    for (const Route& route : routes) {
      const Host host(route.listener, route.host);
      std::string path = route.path.value;
      if (route.path.kind == PathMatch::Kind::prefix && path.ends_with('/')) path.pop_back();
      auto& place = places[{host, route.path.kind, path}];
      if (route.path.kind == PathMatch::Kind::regex && place.empty()) regexes[host].push_back(path);
      place.push_back(&route);
    }
    for (const auto& [host, paths] : regexes)
      all(host.first, host.second, paths);
    for (auto& [where, place] : places) {
      if (place.size() < 2) continue;
      std::ranges::stable_sort(
          place, [](const Route* a, const Route* b) { return more_specific(*a, *b); });
      for (const Route* route : place)
        add(*route);
    }
  }

 private:
  template <typename T>
  requires std::integral<T> || std::is_enum_v<T>
  void add(const T& value) {
    const auto word = static_cast<std::uint64_t>(value);
    for (int i = 0; i < 8; ++i)
      bytes_.push_back(static_cast<char>(word >> (8 * i)));
  }
  void add(double value) { add(std::bit_cast<std::uint64_t>(value)); }
  void add(Duration value) { add(value.count()); }
  void add(const std::string& value) {
    add(value.size());
    bytes_ += value;
  }
  void add(const IpAddress& value) {
    for (const std::uint8_t byte : value.bytes())
      bytes_.push_back(static_cast<char>(byte));
  }
  void add(const Prefix& value) { all(value.address, value.length); }
  void add(const PortRange& value) { all(value.first, value.last); }
  void add(const SocketAddress& value) { all(value.address, value.port); }

  template <typename T>
  void add(const std::optional<T>& value) {
    add(value.has_value());
    if (value) add(*value);
  }
  template <typename T>
  void add(const std::vector<T>& values) {
    add(values.size());
    for (const T& value : values)
      add(value);
  }

  void add(const ProtectFrom& value) {
    all(value.cidr);
    unordered(value.to_ports);
    unordered(value.interfaces);
  }
  void add(const InterceptExcept& value) {
    unordered(value.from);
    unordered(value.from_pods);
    unordered(value.to);
  }
  void add(const Intercept& value) {
    unordered(value.from);
    unordered(value.from_pods);
    unordered(value.to);
    unordered(value.ports);
    unordered(value.cgroups);
    all(value.except, value.listener, value.on_exit, value.lease, value.take_over, value.steering,
        value.on_change, value.quic);
  }
  void add(const ListenerTimeouts& value) {
    all(value.detect, value.handshake, value.head, value.body_idle, value.idle, value.drain);
  }
  void add(const TlsCertificate& value) { all(value.cert, value.key); }
  void add(const CertificateAuthority& value) {
    all(value.pair);
    unordered(value.hosts);
  }
  void add(const ListenerTls& value) {
    all(value.certificates,  // the first is for unknown names
        value.authority, value.min_version, value.ciphers, value.alpn, value.strict_sni,
        value.client_auth, value.client_ca);
  }
  void add(const UpstreamTls& value) {
    all(value.ca, value.sni, value.verify, value.min_version, value.cert, value.key);
  }
  void add(const Listener& value) {
    all(value.name, value.bind, value.protocol, value.max_connections, value.access, value.timeouts,
        value.tls, value.accept_proxy_protocol, value.verify_authority, value.client_from,
        value.forwarded, value.request_id, value.express, value.trace_context, value.trace_sample,
        value.cancel_on_close);
    unordered(value.limits);
  }
  void add(const ClaimMatch& value) { all(value.name, value.kind, value.value); }
  void add(const PodSelector& value) { add(value.text()); }
  void add(const AccessSource& value) { all(value.cidr, value.set, value.identity, value.claim); }
  void add(const AccessRules& value) {
    unordered(value.allow);
    unordered(value.deny);
  }
  void add(const LimitUse& value) { all(value.name, value.cost); }
  void add(const LimitKeyPart& value) { all(value.kind, value.name); }
  void add(const RedisConfig& value) {
    all(value.address, value.name, value.tls, value.database, value.username, value.password, value.prefix, value.on_loss,
        value.deadline);
  }
  void add(const Endpoint& value) {
    all(value.address, value.dns, value.port, value.srv, value.kubernetes, value.family, value.weight,
        value.priority);
  }
  void add(const KubernetesService& value) { all(value.service, value.name_space, value.port); }
  void add(const KubernetesConfig& value) { all(value.server, value.token, value.ca, value.node); }
  void add(const HashOn& value) { all(value.header, value.cookie); }
  void add(const Sticky& value) { all(value.cookie, value.key, value.max_age); }
  void add(const Dns& value) { all(value.resolvers, value.min_ttl, value.timeout); }
  void add(const SuccessRate& value) {
    all(value.interval, value.minimum_hosts, value.request_volume, value.stdev_factor);
  }
  void add(const CircuitBreakers& value) {
    all(value.connections, value.endpoint_connections, value.pending, value.requests,
        value.retries);
  }
  void add(const HealthCheck& value) {
    all(value.http_path, value.grpc, value.interval, value.timeout, value.unhealthy_threshold,
        value.healthy_threshold);
  }
  void add(const OutlierDetection& value) {
    all(value.consecutive_5xx, value.consecutive_gateway_errors, value.consecutive_connect_failures,
        value.base_ejection_time, value.max_ejection_percent, value.success_rate);
  }
  void add(const UpstreamTimeouts& value) {
    all(value.connect, value.first_byte, value.body_idle, value.idle);
  }
  void add(const Retry& value) {
    all(value.retry_on, value.attempts, value.budget_percent, value.per_try_timeout, value.back_off,
        value.max_back_off, value.max_retry_after);
  }
  void add(const Upstream& value) {
    all(value.name, value.original_destination, value.protocol, value.source_address, value.express,
        value.lb_policy, value.hash_on, value.sticky, value.slow_start, value.panic_percent,
        value.queue_timeout, value.dns, value.send_proxy_protocol, value.tls, value.health_check,
        value.outlier_detection, value.timeouts, value.retry, value.circuit_breakers);
    unordered(value.endpoints);
  }
  void add(const WeightedUpstream& value) { all(value.name, value.weight); }
  void add(const ValueMatch& value) { all(value.name, value.kind, value.value); }
  void add(const ApiKey& value) {
    all(value.name);
    for (const std::uint8_t byte : value.sha256)
      bytes_.push_back(static_cast<char>(byte));
    add(value.attributes.size());
    for (const auto& [name, text] : value.attributes)
      all(name, text);
  }
  void add(const ApiKeyAuth& value) {
    all(value.header, value.forward);
    unordered(value.keys);
  }
  void add(const AiTimeouts& value) { all(value.connect, value.first_token, value.idle); }
  void add(const AiProvider& value) {
    all(value.name, value.kind, value.url, value.url.authority, value.url.target, value.keys,
        value.caller_key, value.api_version, value.timeouts);
  }
  void add(const AiTarget& value) { all(value.provider, value.model, value.weight); }
  // Those of the targets that were not drawn are tried in their order.
  void add(const AiModel& value) { all(value.name, value.targets, value.fallback); }
  void add(const AiScope& value) {
    unordered(value.keys);
    unordered(value.teams);
    unordered(value.models);
    unordered(value.routes);
  }
  void add(const AiBudget& value) {
    all(value.name, value.micros, value.period, value.each, value.scope);
  }
  void add(const AiUsage& value) { all(value.file, value.keep); }
  void add(const AiCache& value) { all(value.ttl, value.max_memory, value.scope); }
  void add(const AiFilter& value) {
    all(value.name, value.find.size(), value.pattern, value.action, value.direction, value.scope);
    for (const std::uint8_t word : value.find)
      bytes_.push_back(static_cast<char>(word));
  }
  void add(const AiAudit& value) {
    all(value.path, value.max_body, value.max_memory, value.scope);
  }
  void add(const AiIdentity& value) {
    all(value.from, value.key);
    unordered(value.cgroups);
  }
  void add(const AiBypass& value) {
    all(value.action);
    unordered(value.hosts);
  }
  void add(const AiConfig& value) {
    unordered(value.models);
    unordered(value.budgets);
    all(value.providers,  // the first of its kind is asked for what names no model
        value.untranslatable, value.keys, value.identities, value.key_file, value.prices,
        value.unpriced, value.usage, value.cache, value.filters, value.audit, value.bypass,
        value.scope);
  }
  void add(const AuthUrl& value) { all(value.text, value.upstream); }
  void add(const JwtAuth& value) {
    all(value.issuer, value.jwks_file, value.jwks_url, value.refresh, value.leeway, value.header,
        value.forward);
    unordered(value.audience);
    unordered(value.algorithms);
  }
  void add(const ExternalAuth& value) {
    all(value.url, value.timeout, value.on_error);
    unordered(value.request_headers);
    unordered(value.upstream_headers);
  }
  void add(const Overload& value) {
    all(value.max_connections, value.max_memory, value.shed_percent, value.retry_after);
  }
  void add(const Auth& value) { all(value.name, value.api_keys, value.jwt, value.external); }
  void add(const FieldChange& value) { all(value.name, value.value); }
  void add(const FieldChanges& value) {
    all(value.add);
    unordered(value.set);
    unordered(value.remove);
  }
  void add(const PathChange& value) { all(value.kind, value.value); }
  void add(const Rewrite& value) { all(value.host, value.path); }
  void add(const Redirect& value) {
    all(value.status, value.scheme, value.host, value.port, value.path);
  }
  void add(const DirectResponse& value) { all(value.status, value.body, value.content_type); }
  void add(const Cors& value) {
    unordered(value.allow_origins);
    unordered(value.allow_methods);
    unordered(value.allow_headers);
    unordered(value.expose_headers);
    all(value.allow_credentials, value.max_age);
  }
  void add(const Mirror& value) { all(value.upstream, value.percent); }
  void add(const Compression& value) {
    all(value.algorithms, value.min_size, value.level);
    unordered(value.types);
  }
  void add(const RouteActions& value) {
    all(value.request_headers, value.response_headers, value.rewrite, value.redirect,
        value.direct_response, value.cors, value.mirror, value.compression, value.max_body,
        value.max_response_body);
  }
  void add(const Route& value) {
    all(value.name, value.listener, value.host, value.path.kind, value.path.value, value.timeout,
        value.access, value.limits, value.auth, value.ai, value.actions);
    unordered(value.upstreams);
    unordered(value.methods);
    unordered(value.headers);
    unordered(value.query);
    unordered(value.to);
    unordered(value.to_ports);
  }
  void add(const DefaultAction& value) {
    add(value.index());
    std::visit([this](const auto& action) { add(action); }, value);
  }
  void add(const DefaultRoute& value) { all(value.local, value.forward, value.output); }
  void add(const Limit& value) {
    all(value.name, value.unit, value.action, value.scope, value.rate_count, value.rate_period,
        value.burst, value.max, value.max_delay, value.ipv4_prefix, value.ipv6_prefix,
        value.max_keys, value.from, value.pods ? value.pods->digest() : std::uint64_t{0});
    unordered(value.key);
  }
  void add(const BanRule& value) {
    all(value.limit, value.event, value.route, value.count, value.within, value.duration,
        value.grow, value.up_to, value.ipv6_prefix, value.action, value.upstream, value.mode);
  }
  void add(const SetReference& value) { all(value.name); }
  void add(const AddressMatch& value) {
    unordered(value.prefixes);
    unordered(value.sets);
  }
  void add(const SetConfig& value) {
    all(value.name, value.file, value.format, value.pods, value.members->digest());
  }
  void add(const GuardMatch& value) {
    all(value.from, value.to);
    unordered(value.from_ports);
    unordered(value.to_ports);
  }
  void add(const PacketRate& value) { all(value.count, value.period, value.burst); }
  void add(const GuardRule& value) {
    all(value.name, value.match, value.except, value.protocol, value.action, value.rate,
        value.direction, value.interfaces.has_value(), value.mode);
    unordered(value.interfaces.value_or(std::vector<std::string>{}));
  }
  void add(const GuardConfig& value) {
    unordered(value.interfaces);
    unordered(value.monitor);
    all(value.attach, value.first, value.mode, value.source_syn, value.service_syn,
        value.rules);  // the first matching rule is the one reported
  }
  void add(const AdminConfig& value) {
    all(value.bind, value.token);
    unordered(value.allow);
    unordered(value.hosts);
  }
  void add(const TracingConfig& value) { all(value.url.text, value.sample, value.service); }
  void add(const MetricsConfig& value) {
    all(value.bind);
    unordered(value.allow);
  }

 public:
  void add(const Config& value) {
    const Marks& marks = value.intercept.marks;
    all(value.state_dir, value.workers, value.admin, value.metrics, value.tracing, value.access_log.format,
        value.access_log.path, marks.mark, marks.mask, marks.table, marks.priority,
        value.default_route, value.bans.max, value.bans.rate_count, value.bans.rate_period,
        value.redis, value.kubernetes, value.guard);
    unordered(value.intercept.tc.interfaces);
    unordered(value.sets);
    unordered(value.protect.from);
    unordered(value.trusted_proxies);
    unordered(value.protect.host_ports);
    unordered(value.intercept.local);
    unordered(value.intercept.forward);
    unordered(value.intercept.output);
    unordered(value.listeners);
    unordered(value.upstreams);
    unordered(value.routes);
    add_order(value.routes);
    unordered(value.auth);
    all(value.overload, value.ai);
    unordered(value.limits);
    unordered(value.bans.rules);
  }

 private:
  std::string bytes_;
};

template <typename... T>
std::uint64_t fingerprint_of(const T&... values) {
  FingerprintWriter writer;
  writer.all(values...);
  return siphash(kFingerprintKey, writer.bytes());
}

std::string name_of(const Intercept& entry) {
  std::string name;
  for (const Prefix& prefix : entry.to)
    name += (name.empty() ? "" : ", ") + prefix.to_string();
  if (name.size() > 60) name = name.substr(0, 60) + "…";
  return name.append(" for `").append(entry.listener).append("`");
}

std::string name_of(const BanRule& rule) {
  return "limit `" + rule.limit + "` " + std::to_string(rule.count) + " times";
}

std::string name_of(const ProtectFrom& entry) {
  return entry.cidr.to_string();
}

template <typename T>
std::string name_of(const T& item) {
  return item.name;
}

template <typename T>
void add_items(std::vector<Item>& items, const char* section, std::vector<T>& list) {
  for (const T& item : list)
    items.push_back({section, name_of(item), fingerprint_of(item), item.where});
  list.clear();
}

// Settings that people know by a name of their own.
void add_settings(std::vector<Item>& items, Config& rest) {
  const Config none;
  const auto add = [&]<typename T>(const char* section, T Config::* member) {
    items.push_back({section, "settings", fingerprint_of(rest.*member), {}});
    rest.*member = none.*member;
  };
  add("state_dir", &Config::state_dir);
  add("workers", &Config::workers);
  add("metrics", &Config::metrics);
  add("overload", &Config::overload);
  add("cluster.redis", &Config::redis);
  const auto add_list = [&]<typename T>(const char* section, std::vector<T>& list) {
    FingerprintWriter writer;
    writer.unordered(list);
    items.push_back({section, "settings", siphash(kFingerprintKey, writer.bytes()), {}});
    list.clear();
  };
  add_list("trusted_proxies", rest.trusted_proxies);
  add_list("protect.host_ports", rest.protect.host_ports);
  items.push_back({"logs.access", "settings",
                   fingerprint_of(rest.access_log.format, rest.access_log.path), {}});
  rest.access_log = {};
  items.push_back({"bans", "settings",
                   fingerprint_of(rest.bans.max, rest.bans.rate_count, rest.bans.rate_period), {}});
  rest.bans = {};
}

}  // namespace

// Lists are taken out one by one; what is left, whatever a section of it is called, is settings.
std::vector<Item> items_of(const Config& config) {
  std::vector<Item> items;
  Config rest = config;
  add_items(items, "protect.from", rest.protect.from);
  add_items(items, "intercept.local", rest.intercept.local);
  add_items(items, "intercept.forward", rest.intercept.forward);
  add_items(items, "intercept.output", rest.intercept.output);
  add_items(items, "listeners", rest.listeners);
  add_items(items, "upstreams", rest.upstreams);
  add_items(items, "routes", rest.routes);
  if (rest.ai) {
    add_items(items, "ai.providers", rest.ai->providers);
    add_items(items, "ai.models", rest.ai->models);
    add_items(items, "ai.budgets", rest.ai->budgets);
    add_items(items, "ai.filters", rest.ai->filters);
    if (rest.ai->bypass) {
      const AiBypass& bypass = *rest.ai->bypass;
      items.push_back({"ai.bypass", "settings", fingerprint_of(bypass), bypass.where});
      rest.ai->bypass.reset();
    }
    items.push_back({"ai", "settings", fingerprint_of(*rest.ai), rest.ai->where});
    rest.ai.reset();
  }
  add_items(items, "sets", rest.sets);
  add_items(items, "auth", rest.auth);
  add_items(items, "limits", rest.limits);
  add_items(items, "bans.rules", rest.bans.rules);
  if (rest.guard) {
    add_items(items, "guard.rules", rest.guard->rules);
    items.push_back({"guard", "settings", fingerprint_of(*rest.guard), rest.guard->where});
    rest.guard.reset();
  }
  items.push_back(
      {"default_route", "settings", fingerprint_of(rest.default_route), rest.default_route.where});
  rest.default_route = {};
  items.push_back({"intercept.marks", "settings",
                   fingerprint_of(rest.intercept.marks.mark, rest.intercept.marks.mask,
                                  rest.intercept.marks.table, rest.intercept.marks.priority),
                   rest.intercept.marks.where});
  rest.intercept.marks = {};
  items.push_back({"intercept.tc", "settings", fingerprint_of(rest.intercept.tc.interfaces),
                   rest.intercept.tc.where});
  rest.intercept.tc = {};
  add_settings(items, rest);
  items.push_back({"settings", "other settings", fingerprint(rest), {}});
  return items;
}

std::vector<Item> orders_of(const Config& config) {
  const auto order = [](const char* section, std::uint64_t number, Location where) {
    return Item{section, "their order", number, where};
  };
  FingerprintWriter routes;
  routes.add_order(config.routes);
  std::vector<Item> out;
  out.push_back(order("routes", siphash(kFingerprintKey, routes.bytes()), {}));
  const AiConfig ai = config.ai.value_or(AiConfig{});
  out.push_back(order("ai.providers", fingerprint_of(ai.providers), ai.where));
  out.push_back(order("ai.filters", fingerprint_of(ai.filters), ai.where));
  const GuardConfig guard = config.guard.value_or(GuardConfig{});
  out.push_back(order("guard.rules", fingerprint_of(guard.rules), guard.where));
  return out;
}

std::uint64_t fingerprint(const Upstream& upstream) {
  FingerprintWriter writer;
  writer.all(upstream);
  return siphash(kFingerprintKey, writer.bytes());
}

std::uint64_t fingerprint(const Config& config) {
  FingerprintWriter writer;
  writer.add(config);
  return siphash(kFingerprintKey, writer.bytes());
}

}  // namespace sluice::policy
