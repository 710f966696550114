#include "policy/config_builder.h"

#include <algorithm>
#include <set>
#include <utility>

#include "policy/schema.h"
#include "policy/units.h"

namespace sluice::policy {

namespace {

// --- values: each takes the text or leaves the default
// ----------------------------------------------

void read(const Node& node, std::string& out) {
  if (node.kind == Node::Kind::scalar) out = node.text;
}

template <typename T>
void take(const std::optional<T>& parsed, T& out) {
  if (parsed) out = *parsed;
}

void read(const Node& node, bool& out) {
  take(parse_boolean(node.text), out);
}
void read(const Node& node, double& out) {
  take(parse_number(node.text), out);
}
void read(const Node& node, Duration& out) {
  take(parse_duration(node.text), out);
}
void read(const Node& node, Prefix& out) {
  take(Prefix::parse(node.text), out);
}
void read(const Node& node, PortRange& out) {
  take(PortRange::parse(node.text), out);
}
void read(const Node& node, SocketAddress& out) {
  take(SocketAddress::parse(node.text), out);
}

template <std::unsigned_integral T>
void read(const Node& node, T& out) {
  const auto value = parse_integer(node.text);
  if (value && std::in_range<T>(*value)) out = static_cast<T>(*value);
}

void read(const Node& node, DefaultAction& out) {
  if (const auto status = parse_integer(node.text)) {
    out = static_cast<int>(*status);
  } else if (node.kind == Node::Kind::scalar) {
    out = node.text;
  }
}

template <typename T>
void read(const Node& node, std::optional<T>& out) {
  T value{};
  read(node, value);
  out = value;
}

template <typename T>
void read(const Node& node, std::vector<T>& out) {
  if (node.kind != Node::Kind::list) return;
  out.clear();
  for (const Node& element : node.children)
    read(element, out.emplace_back());
}

template <typename Enum, std::size_t kCount>
void read_word(const Node& node, const std::array<std::string_view, kCount>& words, Enum& out) {
  const auto word = std::ranges::find(words, node.text);
  if (word != words.end()) out = static_cast<Enum>(word - words.begin());
}

template <typename T>
void optional(const Node& node, std::string_view key, T& out) {
  if (const Node* child = node.find(key)) read(*child, out);
}

template <typename Enum, std::size_t kCount>
void optional_word(const Node& node, std::string_view key,
                   const std::array<std::string_view, kCount>& words, Enum& out) {
  if (const Node* child = node.find(key)) read_word(*child, words, out);
}

// --- objects
// ---------------------------------------------------------------------------------------

class Builder {
 public:
  explicit Builder(const Reporter& reporter) : reporter_(reporter) {}

  Config build(const Node& root) {
    Config config;
    optional(root, "state_dir", config.state_dir);
    optional(root, "workers", config.workers);
    if (const Node* node = root.find("protect")) protect(*node, config.protect);
    if (const Node* node = root.find("metrics")) metrics(*node, config.metrics.emplace());
    if (const Node* node = root.find("logs")) logs(*node, config.access_log);
    if (const Node* node = root.find("intercept")) intercept(*node, config.intercept);
    each(root, "listeners",
         [&](const Node& node) { listener(node, config.listeners.emplace_back()); });
    each(root, "upstreams",
         [&](const Node& node) { upstream(node, config.upstreams.emplace_back()); });
    each(root, "routes", [&](const Node& node) { route(node, config.routes.emplace_back()); });
    default_route(root.find("default_route"), config.default_route);
    each(root, "limits", [&](const Node& node) { limit(node, config.limits.emplace_back()); });
    if (const Node* node = root.find("bans")) bans(*node, config.bans);
    if (const Node* node = root.find("guard")) guard(*node, config.guard.emplace());
    return config;
  }

 private:
  template <typename Use>
  static void each(const Node& node, std::string_view key, Use use) {
    const Node* list = node.find(key);
    if (!list) return;
    for (const Node& element : list->children)
      use(element);
  }

  Location where(const Node& node) const { return reporter_.locate(node.where()); }

  void protect(const Node& node, Protect& out) const {
    optional(node, "host_ports", out.host_ports);
    each(node, "from", [&](const Node& element) {
      ProtectFrom& from = out.from.emplace_back();
      optional(element, "cidr", from.cidr);
      optional(element, "to_ports", from.to_ports);
      optional(element, "interfaces", from.interfaces);
      from.where = where(element);
    });
  }

  static void metrics(const Node& node, MetricsConfig& out) {
    optional(node, "bind", out.bind);
    optional(node, "allow", out.allow);
  }

  static void logs(const Node& node, AccessLogConfig& out) {
    const Node* access = node.find("access");
    if (!access) return;
    optional_word(*access, "format", kLogFormatWords, out.format);
    optional(*access, "path", out.path);
    if (out.path == "stderr") out.path.clear();
  }

  void intercept(const Node& node, InterceptConfig& out) const {
    if (const Node* marks = node.find("marks")) {
      out.marks.where = where(*marks);
      optional(*marks, "mark", out.marks.mark);
      optional(*marks, "mask", out.marks.mask);
      optional(*marks, "table", out.marks.table);
      optional(*marks, "priority", out.marks.priority);
    }
    each(node, "local", [&](const Node& e) { caught(e, out.local.emplace_back()); });
    each(node, "forward", [&](const Node& e) { passing(e, out.forward.emplace_back()); });
    each(node, "output", [&](const Node& e) {
      Intercept& entry = out.output.emplace_back();
      entry.on_exit = OnExit::bypass;
      passing(e, entry);
    });
  }

  void caught(const Node& node, Intercept& out) const {
    optional(node, "from", out.from);
    optional(node, "to", out.to);
    if (const Node* except = node.find("except")) {
      optional(*except, "from", out.except.from);
      optional(*except, "to", out.except.to);
    }
    optional(node, "ports", out.ports);
    optional(node, "cgroups", out.cgroups);
    optional(node, "listener", out.listener);
    optional_word(node, "on_exit", kOnExitWords, out.on_exit);
    optional(node, "lease", out.lease);
    optional(node, "take_over", out.take_over);
    out.where = where(node);
  }

  void passing(const Node& node, Intercept& out) const {
    out.to = {{IpAddress::v4(0), 0}, {IpAddress(), 0}};
    caught(node, out);
  }

  void listener(const Node& node, Listener& out) const {
    out.name = node.key;
    out.where = where(node);
    optional(node, "bind", out.bind);
    optional_word(node, "protocol", kListenerProtocolWords, out.protocol);
    optional(node, "max_connections", out.max_connections);
    if (const Node* timeouts = node.find("timeouts")) {
      optional(*timeouts, "detect", out.timeouts.detect);
      optional(*timeouts, "head", out.timeouts.head);
      optional(*timeouts, "body_idle", out.timeouts.body_idle);
      optional(*timeouts, "idle", out.timeouts.idle);
      optional(*timeouts, "drain", out.timeouts.drain);
    }
  }

  void endpoint(const Node& node, Endpoint& out) const {
    out.where = where(node);
    if (node.kind == Node::Kind::scalar) return read(node, out.address);
    optional(node, "address", out.address);
    optional(node, "weight", out.weight);
  }

  static void health_check(const Node& node, HealthCheck& out) {
    optional(node, "http", out.http_path);
    optional(node, "interval", out.interval);
    optional(node, "timeout", out.timeout);
    optional(node, "unhealthy_threshold", out.unhealthy_threshold);
    optional(node, "healthy_threshold", out.healthy_threshold);
  }

  static void outlier_detection(const Node& node, OutlierDetection& out) {
    optional(node, "consecutive_5xx", out.consecutive_5xx);
    optional(node, "consecutive_connect_failures", out.consecutive_connect_failures);
    optional(node, "base_ejection_time", out.base_ejection_time);
    optional(node, "max_ejection_percent", out.max_ejection_percent);
  }

  static void retry(const Node& node, Retry& out) {
    optional(node, "attempts", out.attempts);
    if (const Node* budget = node.find("budget"))
      take(parse_percent(budget->text), out.budget_percent);
    const Node* retry_on = node.find("retry_on");
    if (!retry_on) return;
    out.retry_on = 0;
    for (const Node& condition : retry_on->children) {
      const auto word = std::ranges::find(kRetryOnWords, condition.text);
      if (word != kRetryOnWords.end()) out.retry_on |= 1u << (word - kRetryOnWords.begin());
    }
  }

  void upstream(const Node& node, Upstream& out) const {
    out.name = node.key;
    out.where = where(node);
    if (const Node* endpoints = node.find("endpoints")) {
      out.original_destination = endpoints->text == kOriginalDestination;
      for (const Node& element : endpoints->children)
        endpoint(element, out.endpoints.emplace_back());
    }
    optional_word(node, "source_address", kSourceAddressWords, out.source_address);
    optional_word(node, "lb_policy", kLbPolicyWords, out.lb_policy);
    if (const Node* child = node.find("health_check"))
      health_check(*child, out.health_check.emplace());
    if (const Node* child = node.find("outlier_detection")) {
      outlier_detection(*child, out.outlier_detection);
    }
    if (const Node* child = node.find("circuit_breakers")) {
      optional(*child, "connections", out.max_connections);
    }
    if (const Node* child = node.find("timeouts")) {
      optional(*child, "connect", out.timeouts.connect);
      optional(*child, "first_byte", out.timeouts.first_byte);
      optional(*child, "idle", out.timeouts.idle);
    }
    if (const Node* child = node.find("retry")) retry(*child, out.retry);
  }

  static void path(const Node& node, PathMatch& out) {
    const Node* exact = node.find("exact");
    const Node* prefix = node.kind == Node::Kind::scalar ? &node : node.find("prefix");
    if (exact) {
      out.kind = PathMatch::Kind::exact;
      read(*exact, out.value);
    } else if (prefix) {
      out.kind = PathMatch::Kind::prefix;
      read(*prefix, out.value);
    }
  }

  void route(const Node& node, Route& out) const {
    out.where = where(node);
    optional(node, "name", out.name);
    optional(node, "listener", out.listener);
    optional(node, "host", out.host);
    std::ranges::transform(out.host, out.host.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    if (const Node* child = node.find("path")) path(*child, out.path);
    if (const Node* child = node.find("upstream")) read(*child, out.upstreams.emplace_back().name);
    each(node, "upstreams", [&](const Node& element) {
      WeightedUpstream& upstream = out.upstreams.emplace_back();
      if (element.kind == Node::Kind::scalar) return read(element, upstream.name);
      optional(element, "name", upstream.name);
      optional(element, "weight", upstream.weight);
    });
    optional(node, "limits", out.limits);
    optional(node, "timeout", out.timeout);
  }

  void default_route(const Node* node, DefaultRoute& out) const {
    out.forward = std::string(kOriginalDestination);
    out.output = std::string(kOriginalDestination);
    if (!node) return;
    out.where = where(*node);
    optional(*node, "local", out.local);
    optional(*node, "forward", out.forward);
    optional(*node, "output", out.output);
  }

  void limit(const Node& node, Limit& out) const {
    out.name = node.key;
    out.where = where(node);
    if (const Node* rate = node.find("rate")) {
      if (const auto parsed = parse_rate(rate->text)) {
        out.rate_count = parsed->count;
        out.rate_period = parsed->period;
      }
    }
    out.burst = out.rate_count;
    optional(node, "burst", out.burst);
    optional(node, "ipv6_prefix", out.ipv6_prefix);
    if (const Node* key = node.find("key"); key && key->kind == Node::Kind::list) {
      out.key.clear();
      for (const Node& element : key->children) {
        read_word(element, kLimitKeyWords, out.key.emplace_back());
      }
    }
  }

  void bans(const Node& node, BansConfig& out) const {
    optional(node, "max", out.max);
    each(node, "rules", [&](const Node& element) {
      BanRule& rule = out.rules.emplace_back();
      rule.where = where(element);
      if (const Node* when = element.find("when")) {
        optional(*when, "limit", rule.limit);
        optional(*when, "count", rule.count);
        optional(*when, "within", rule.within);
      }
      optional(element, "for", rule.duration);
      optional(element, "grow", rule.grow);
      optional(element, "up_to", rule.up_to);
      optional_word(element, "mode", kBanModeWords, rule.mode);
    });
  }

  static void guard_match(const Node& node, GuardMatch& out) {
    optional(node, "from", out.from);
    optional(node, "to", out.to);
    optional(node, "from_ports", out.from_ports);
    optional(node, "to_ports", out.to_ports);
  }

  void guard(const Node& node, GuardConfig& out) const {
    optional(node, "interfaces", out.interfaces);
    optional_word(node, "attach", kGuardAttachWords, out.attach);
    if (const Node* position = node.find("position")) out.first = position->text != "last";
    each(node, "rules", [&](const Node& element) {
      GuardRule& rule = out.rules.emplace_back();
      rule.where = where(element);
      optional(element, "name", rule.name);
      guard_match(element, rule.match);
      if (const Node* except = element.find("except")) guard_match(*except, rule.except);
      if (const Node* protocol = element.find("protocol")) {
        rule.protocol = parse_ip_protocol(protocol->text);
      }
      optional_word(element, "action", kGuardActionWords, rule.action);
    });
  }

  const Reporter& reporter_;
};

std::string describe(const Route& route) {
  std::string name = route.listener + " " + (route.host.empty() ? "*" : route.host) + " ";
  switch (route.path.kind) {
    case PathMatch::Kind::any:
      return name + "*";
    case PathMatch::Kind::prefix:
      return name + route.path.value;
    case PathMatch::Kind::exact:
      return name + "=" + route.path.value;
  }
  return name;
}

void name_the_only_listener(Config& config) {
  if (config.listeners.size() != 1) return;
  const std::string& only = config.listeners.front().name;
  const auto fill = [&](auto& items) {
    for (auto& item : items) {
      if (item.listener.empty()) item.listener = only;
    }
  };
  fill(config.routes);
  fill(config.intercept.local);
  fill(config.intercept.forward);
  fill(config.intercept.output);
}

bool names_upstream(const DefaultAction& action, std::string_view name) {
  const auto* text = std::get_if<std::string>(&action);
  return text && *text == name;
}

// Where nothing is caught on a way, its default is never asked; a plain status keeps the upstream
// out of the way.
void add_original_destination(Config& config) {
  DefaultRoute& defaults = config.default_route;
  const bool unsaid = defaults.where.line == 0;
  if (unsaid && config.intercept.forward.empty()) defaults.forward = 502;
  if (unsaid && config.intercept.output.empty()) defaults.output = 502;
  const auto uses = [](const Route& route) {
    return std::ranges::find(route.upstreams, kOriginalDestination, &WeightedUpstream::name) !=
           route.upstreams.end();
  };
  const bool wanted = names_upstream(defaults.local, kOriginalDestination) ||
                      names_upstream(defaults.forward, kOriginalDestination) ||
                      names_upstream(defaults.output, kOriginalDestination) ||
                      std::ranges::any_of(config.routes, uses);
  const bool there = std::ranges::find(config.upstreams, kOriginalDestination, &Upstream::name) !=
                     config.upstreams.end();
  if (!wanted || there) return;
  Upstream& implicit = config.upstreams.emplace_back();
  implicit.name = kOriginalDestination;
  implicit.original_destination = true;
}

// Without a name a rule is called after its place among the unnamed, which a reload of the same
// file keeps.
void name_guard_rules(GuardConfig& guard) {
  std::set<std::string> taken;
  for (const GuardRule& rule : guard.rules)
    taken.insert(rule.name);
  std::size_t number = 0;
  for (GuardRule& rule : guard.rules) {
    ++number;
    if (!rule.name.empty()) continue;
    rule.name = "rule-" + std::to_string(number);
    while (!taken.insert(rule.name).second)
      rule.name += "-unnamed";
  }
}

}  // namespace

Config build_config(const Node& root, const Reporter& reporter) {
  return Builder(reporter).build(root);
}

void complete(Config& config) {
  name_the_only_listener(config);
  add_original_destination(config);
  for (Route& route : config.routes) {
    if (route.name.empty()) route.name = describe(route);
  }
  if (config.guard) name_guard_rules(*config.guard);
}

}  // namespace sluice::policy
