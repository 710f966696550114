// From a checked tree to the typed configuration, one function a section, one file a section.
// What check() has refused keeps its default.
#pragma once

#include "policy/config.h"
#include "policy/yaml_tree.h"

namespace sluice::policy::binding {

// A list of prefixes and sets, or one of them alone.
void addresses(const Node& node, std::string_view key, const Reporter& reporter, AddressMatch& out);
// The same of prefixes and pods: `pods` gets the latter.
void prefixes_and_pods(const Node& node, std::string_view key, const Reporter& reporter,
                       std::vector<Prefix>& prefixes, std::vector<SetReference>& pods);
SetReference pods(const Node& node, const Reporter& reporter);
void set(const Node& node, const Reporter& reporter, SetConfig& out);
void protect(const Node& node, const Reporter& reporter, Protect& out);
void admin(const Node& node, const Reporter& reporter, AdminConfig& out);
void metrics(const Node& node, MetricsConfig& out);
void tracing(const Node& node, const Reporter& reporter, TracingConfig& out);
void logs(const Node& node, AccessLogConfig& out);
void intercept(const Node& node, const Reporter& reporter, InterceptConfig& out);
void listener(const Node& node, const Reporter& reporter, Listener& out);
void listener_tls(const Node& node, const Reporter& reporter, ListenerTls& out);
void upstream_tls(const Node& node, const Reporter& reporter, UpstreamTls& out);
void upstream(const Node& node, const Reporter& reporter, Upstream& out);
// A list of conditions on header fields or query parameters.
void value_matches(const Node& node, std::string_view key, bool are_headers,
                   std::vector<ValueMatch>& out);
void route(const Node& node, const Reporter& reporter, Route& out);
void overload(const Node& node, Overload& out);
void ai(const Node& node, const Reporter& reporter, AiConfig& out);
void auth(const Node& node, const Reporter& reporter, Auth& out);
void route_actions(const Node& node, const Reporter& reporter, RouteActions& out);
void default_route(const Node* node, const Reporter& reporter, DefaultRoute& out);
void access(const Node& node, const Reporter& reporter, AccessRules& out);
void cluster(const Node& node, const Reporter& reporter, std::optional<RedisConfig>& out);
void kubernetes(const Node& node, const Reporter& reporter, KubernetesConfig& out);
void kubernetes_service(const Node& node, KubernetesService& out);
void limit(const Node& node, const Reporter& reporter, Limit& out);
void bans(const Node& node, const Reporter& reporter, BansConfig& out);
void guard(const Node& node, const Reporter& reporter, GuardConfig& out);

}  // namespace sluice::policy::binding
