#include "policy/config_builder.h"

#include <algorithm>
#include <set>

#include "policy/ai_providers.h"
#include "policy/auth_url.h"
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"
#include "policy/set_references.h"

namespace sluice::policy {

namespace {

std::string describe(const PathMatch& path) {
  switch (path.kind) {
    case PathMatch::Kind::any:
      break;
    case PathMatch::Kind::prefix:
      return path.value;
    case PathMatch::Kind::exact:
      return "=" + path.value;
    case PathMatch::Kind::regex:
      return "~" + path.value;
  }
  return "*";
}

std::string describe(const std::vector<ValueMatch>& matches, std::string_view mark) {
  std::string text;
  for (const ValueMatch& match : matches) {
    text +=
        " " + std::string(mark) + (match.kind == ValueMatch::Kind::absent ? "!" : "") + match.name;
    if (match.kind == ValueMatch::Kind::exact) text += "=" + match.value;
    if (match.kind == ValueMatch::Kind::regex) text += "~" + match.value;
  }
  return text;
}

// Everything that tells it from other routes, so that names are unique and stay over reloads.
std::string describe(const Route& route) {
  std::string name =
      route.listener + " " + (route.host.empty() ? "*" : route.host) + " " + describe(route.path);
  for (const std::string& method : route.methods)
    name += (&method == &route.methods.front() ? " " : ",") + method;
  name += describe(route.headers, "") + describe(route.query, "?");
  for (const Prefix& to : route.to)
    name += " to " + to.to_string();
  for (const PortRange& ports : route.to_ports)
    name += " :" + std::to_string(ports.first) +
            (ports.first == ports.last ? "" : "-" + std::to_string(ports.last));
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

// What was decrypted on its way goes on to where it was going by TLS, whatever route or default
// sends it there: such upstreams without it have a twin that has.
void add_twins_over_tls(Config& config) {
  const auto decrypts = [](const Listener& listener) {
    return listener.tls && listener.tls->authority;
  };
  const auto listener = std::ranges::find_if(config.listeners, decrypts);
  if (listener == config.listeners.end()) return;
  const std::size_t known = config.upstreams.size();
  for (std::size_t i = 0; i < known; ++i) {
    if (!config.upstreams[i].original_destination || config.upstreams[i].tls) continue;
    config.upstreams[i].over_tls = static_cast<std::uint32_t>(config.upstreams.size());
    Upstream twin = config.upstreams[i];
    twin.name += ".tls";
    twin.over_tls.reset();
    twin.tls.emplace().where = listener->tls->authority->where;
    config.upstreams.push_back(std::move(twin));
  }
}

// Services that are asked under an address of their own get an upstream of their own.
void add_auth_upstreams(Config& config) {
  const auto add = [&](AuthUrl& url, const Auth& auth, const std::string& what) {
    const auto address = address_of(url);
    if (!url.upstream.empty() || url.tls || !address) return;
    Upstream& implicit = config.upstreams.emplace_back();
    implicit.name = url.upstream = "auth." + auth.name + "." + what;
    implicit.where = auth.where;
    implicit.endpoints.emplace_back().address = *address;
  };
  for (Auth& auth : config.auth) {
    if (auth.jwt && auth.jwt->jwks_url) add(*auth.jwt->jwks_url, auth, "jwks");
    if (auth.external) add(auth.external->url, auth, "external");
  }
}

// Pods that are named in place are a set, called after them.
void add_pod_sets(Config& config) {
  each_set_reference(config, [&](const SetReference& reference) {
    if (!reference.pods) return;
    const auto known = std::ranges::find(config.sets, reference.name, &SetConfig::name);
    if (known != config.sets.end()) return;
    SetConfig& set = config.sets.emplace_back();
    set.name = reference.name;
    set.pods = reference.pods;
    set.where = reference.where;
  });
}

// Who names Pods or a Service and does not say where the API server is means the one of its own pod.
void add_kubernetes(Config& config) {
  if (config.kubernetes) return;
  const auto pods =
      std::ranges::find_if(config.sets, [](const SetConfig& set) { return set.pods.has_value(); });
  if (pods != config.sets.end()) {
    config.kubernetes.emplace().where = pods->where;
    return;
  }
  for (const Upstream& upstream : config.upstreams) {
    const auto service = std::ranges::find_if(upstream.endpoints, &Endpoint::is_service);
    if (service == upstream.endpoints.end()) continue;
    config.kubernetes.emplace().where = service->where;
    return;
  }
}

// A collector's errors are nobody's to be protected from: it is asked again and again.
void add_tracing_upstream(Config& config) {
  if (!config.tracing || config.tracing->url.authority.empty()) return;
  TracingConfig& tracing = *config.tracing;
  Upstream& upstream = config.upstreams.emplace_back();
  upstream.name = tracing.url.upstream = "tracing.otlp";
  upstream.where = tracing.where;
  upstream.endpoints.push_back(endpoint_of(tracing.url));
  upstream.endpoints.back().where = tracing.where;
  if (tracing.url.tls) upstream.tls.emplace().where = tracing.where;
  upstream.outlier_detection.consecutive_5xx = 0;
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
  using namespace binding;
  Config config;
  optional(root, "state_dir", config.state_dir);
  optional(root, "workers", config.workers);
  if (const Node* node = root.find("protect")) protect(*node, reporter, config.protect);
  each(root, "sets", [&](const Node& node) { set(node, reporter, config.sets.emplace_back()); });
  optional(root, "trusted_proxies", config.trusted_proxies);
  if (const Node* node = root.find("admin")) admin(*node, reporter, config.admin.emplace());
  if (const Node* node = root.find("metrics")) metrics(*node, config.metrics.emplace());
  if (const Node* node = root.find("tracing")) tracing(*node, reporter, config.tracing.emplace());
  if (const Node* node = root.find("logs")) logs(*node, config.access_log);
  if (const Node* node = root.find("intercept")) intercept(*node, reporter, config.intercept);
  each(root, "listeners",
       [&](const Node& node) { listener(node, reporter, config.listeners.emplace_back()); });
  each(root, "upstreams",
       [&](const Node& node) { upstream(node, reporter, config.upstreams.emplace_back()); });
  if (const Node* node = root.find("overload")) overload(*node, config.overload);
  each(root, "auth",
       [&](const Node& node) { auth(node, reporter, config.auth.emplace_back()); });
  if (const Node* node = root.find("ai")) ai(*node, reporter, config.ai.emplace());
  if (const Node* node = root.find("routes")) config.routes.reserve(node->children.size());
  each(root, "routes",
       [&](const Node& node) { route(node, reporter, config.routes.emplace_back()); });
  default_route(root.find("default_route"), reporter, config.default_route);
  each(root, "limits",
       [&](const Node& node) { limit(node, reporter, config.limits.emplace_back()); });
  if (const Node* node = root.find("cluster")) cluster(*node, reporter, config.redis);
  if (const Node* node = root.find("kubernetes"))
    kubernetes(*node, reporter, config.kubernetes.emplace());
  if (const Node* node = root.find("bans")) bans(*node, reporter, config.bans);
  if (const Node* node = root.find("guard")) guard(*node, reporter, config.guard.emplace());
  return config;
}

void complete(Config& config) {
  name_the_only_listener(config);
  add_original_destination(config);
  add_twins_over_tls(config);
  add_auth_upstreams(config);
  add_pod_sets(config);
  add_kubernetes(config);
  complete_ai(config);
  add_tracing_upstream(config);
  for (Route& route : config.routes) {
    if (route.name.empty()) route.name = describe(route);
  }
  if (config.guard) name_guard_rules(*config.guard);
}

}  // namespace sluice::policy
