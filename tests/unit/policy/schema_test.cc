// Holds the schema's table, the binder and the fingerprint together: a field cannot be in one and
// not in the others.
#include "policy/schema.h"

#include <gmock/gmock.h>
#include <map>

#include "parsing.h"
#include "policy/snapshot.h"

namespace sluice::policy {
namespace {

// What the examples refer to. A file of its own, so that the cases' maps are merged with these.
constexpr const char* kBase =
    "version: 1\n"
    "listeners: { web: { tls: { certificates: [{ cert: /base.pem }], client_ca: /base-ca.pem, "
    "client_auth: optional } } }\n"
    "upstreams: { api: { endpoints: [\"192.0.2.77:80\"] } }\n"
    "limits: { per-client: { rate: 7/s, burst: 50 }, new-connections: { unit: connections, "
    "rate: 7/s } }\n"
    "routes: [{ name: trap, listener: web, host: trap.example, upstream: api }]\n"
    "auth: { partners: { jwt: { jwks: { file: base.json } } } }\n"
    "cluster: { redis: { url: \"redis://192.0.2.66:6379\" } }\n"
    "ai: { providers: { base: { base_url: \"http://192.0.2.88:1\" } } }\n"
    "sets: { blocklist: { elements: [198.51.100.9] } }\n";

// Where the fields of an object stand, and what must stand beside them.
struct Context {
  std::string open;
  std::map<std::string, std::string> beside;
  std::string close;
};

const std::map<std::string, Context>& contexts() {
  const std::map<std::string, std::string> local{{"to", "[10.0.0.0/8]"}, {"ports", "[80]"}};
  const std::map<std::string, std::string> ports{{"ports", "[80, 443]"}};
  const std::map<std::string, std::string> endpoints{{"endpoints", "[\"192.0.2.78:80\"]"}};
  const std::string kKeys = "[{ name: bob, sha256: " + std::string(64, '5') + " }]";
  const std::string llama = "providers: { llama: { base_url: \"http://192.0.2.9:1\" } } ";
  const std::string upstream = "upstreams: { new: { endpoints: [\"192.0.2.78:80\"], ";
  const std::string proved = "routes: [{ upstream: api, auth: [partners], access: { ";
  static std::map<std::string, Context> all{
      {"", {"", {}, ""}},
      {".kubernetes", {"kubernetes: { ", {}, " }"}},
      {".upstreams.endpoints.kubernetes",
       {"upstreams: { new: { endpoints: [{ kubernetes: { ",
        {{"service", "web"}, {"namespace", "default"}},
        " } }] } }"}},
      {".intercept.local.except.from",
       {"intercept: { local: [{ to: [10.0.0.0/8], ports: [80], except: { from: [{ ",
        {},
        " }] } }] }"}},
      {".intercept.forward.from",
       {"intercept: { forward: [{ ports: [80], from: [{ ", {}, " }] }] }"}},
      {".intercept.forward.except.from",
       {"intercept: { forward: [{ ports: [80], except: { from: [{ ", {}, " }] } }] }"}},
      {".intercept.output.except.from",
       {"intercept: { output: [{ ports: [80], except: { from: [{ ", {}, " }] } }] }"}},
      {".limits.from", {"limits: { new: { rate: 9/s, from: [{ ", {}, " }] } }"}},
      {".ai.identities",
       {"intercept: { output: [{ cgroups: [/system.slice/app.service], ports: [443], listener: web "
        "}] }\nai: { " + llama + ", identities: [{ ",
        {{"from", "[192.0.2.1]"}, {"key", "bob"}},
        " }] }"}},
      {".ai.identities.from",
       {"ai: { " + llama + ", identities: [{ key: bob, from: [{ ", {}, " }] }] }"}},
      {".protect", {"protect: { ", {}, " }"}},
      {".protect.from", {"protect: { from: [{ ", {{"cidr", "10.0.0.0/8"}}, " }] }"}},
      {".admin", {"admin: { ", {}, " }"}},
      {".tracing", {"tracing: { ", {{"endpoint", "\"http://127.0.0.1:4318\""}}, " }"}},
      {".metrics", {"metrics: { ", {{"bind", "127.0.0.1:1"}}, " }"}},
      {".logs", {"logs: { ", {}, " }"}},
      {".logs.access", {"logs: { access: { ", {}, " } }"}},
      {".intercept", {"intercept: { ", {}, " }"}},
      {".intercept.marks", {"intercept: { marks: { ", {}, " } }"}},
      {".intercept.tc", {"intercept: { tc: { ", {}, " } }"}},
      {".intercept.local", {"intercept: { local: [{ ", local, " }] }"}},
      {".intercept.local.except",
       {"intercept: { local: [{ to: [10.0.0.0/8], ports: [80], except: { ", {}, " } }] }"}},
      {".intercept.forward", {"intercept: { forward: [{ ", ports, " }] }"}},
      {".intercept.forward.except",
       {"intercept: { forward: [{ ports: [80], except: { ", {}, " } }] }"}},
      {".intercept.output", {"intercept: { output: [{ ", ports, " }] }"}},
      {".intercept.output.except",
       {"intercept: { output: [{ ports: [80], except: { ", {}, " } }] }"}},
      {".listeners",
       {"listeners: { new: { ", {}, " } }\ntrusted_proxies: [192.0.2.99]"}},  // for PROXY headers
      {".listeners.access", {"listeners: { new: { access: { ", {}, " } } }"}},
      {".listeners.access.allow", {"listeners: { new: { access: { allow: [{ ", {}, " }] } } }"}},
      {".listeners.access.deny", {"listeners: { new: { access: { deny: [{ ", {}, " }] } } }"}},
      {".listeners.timeouts", {"listeners: { new: { timeouts: { ", {}, " } } }"}},
      {".listeners.tls",
       {"listeners: { new: { tls: { ",
        {{"certificates", "[{ cert: /other.pem }]"},
         {"client_ca", "/ca.pem"},
         {"client_auth", "optional"}},
        " } } }"}},
      {".listeners.tls.certificates",
       {"listeners: { new: { tls: { certificates: [{ ", {{"cert", "/other.pem"}}, " }] } } }"}},
      {".listeners.tls.certificate_authority",
       {"listeners: { new: { tls: { certificate_authority: { ",
        {{"cert", "/o.pem"}, {"key", "/o.key"}, {"hosts", "[a.example]"}},
        " } } } }"}},
      {".upstreams.tls", {upstream + "tls: { ", {{"cert", "/other.pem"}}, " } } }"}},
      {".upstreams", {"upstreams: { new: { ", endpoints, " } }"}},
      {".upstreams.endpoints",
       {"upstreams: { new: { endpoints: [{ ", {{"address", "192.0.2.1:1"}}, " }] } }"}},
      {".upstreams.hash_on", {upstream + "lb_policy: maglev, hash_on: { ", {}, " } } }"}},
      {".upstreams.sticky", {upstream + "sticky: { ", {{"key", "\"0123456789abcdef\""}}, " } } }"}},
      {".upstreams.dns", {upstream + "dns: { ", {}, " } } }"}},
      {".upstreams.outlier_detection.success_rate",
       {upstream + "outlier_detection: { success_rate: { ", {}, " } } } }"}},
      {".upstreams.health_check", {upstream + "health_check: { ", {}, " } } }"}},
      {".upstreams.outlier_detection", {upstream + "outlier_detection: { ", {}, " } } }"}},
      {".upstreams.circuit_breakers", {upstream + "circuit_breakers: { ", {}, " } } }"}},
      {".upstreams.timeouts", {upstream + "timeouts: { ", {}, " } } }"}},
      {".upstreams.retry", {upstream + "retry: { ", {}, " } } }"}},
      {".routes", {"routes: [{ ", {{"upstream", "api"}}, " }]"}},
      {".routes.path", {"routes: [{ upstream: api, path: { ", {}, " } }]"}},
      {".routes.headers", {"routes: [{ upstream: api, headers: [{ ", {{"name", "x-a"}}, " }] }]"}},
      {".routes.query", {"routes: [{ upstream: api, query: [{ ", {{"name", "a"}}, " }] }]"}},
      {".routes.access", {"routes: [{ upstream: api, access: { ", {}, " } }]"}},
      {".routes.access.allow", {proved + "allow: [{ ", {}, " }] } }]"}},
      {".routes.access.deny", {proved + "deny: [{ ", {}, " }] } }]"}},
      {".routes.access.allow.claim",
       {proved + "allow: [{ claim: { ", {{"name", "tenant"}}, " } }] } }]"}},
      {".routes.access.deny.claim",
       {proved + "deny: [{ claim: { ", {{"name", "tenant"}}, " } }] } }]"}},
      {".routes.limits",
       {"routes: [{ upstream: api, limits: [{ ", {{"name", "per-client"}}, " }] }]"}},
      {".routes.upstreams", {"routes: [{ upstreams: [{ ", {{"name", "api"}}, " }] }]"}},
      {".routes.request_headers", {"routes: [{ upstream: api, request_headers: { ", {}, " } }]"}},
      {".routes.response_headers", {"routes: [{ upstream: api, response_headers: { ", {}, " } }]"}},
      {".routes.rewrite", {"routes: [{ upstream: api, rewrite: { ", {{"path", "/else"}}, " } }]"}},
      {".routes.redirect", {"routes: [{ redirect: { ", {{"host", "b.example"}}, " } }]"}},
      {".routes.direct_response", {"routes: [{ direct_response: { ", {{"body", "text"}}, " } }]"}},
      {".routes.cors",
       {"routes: [{ upstream: api, cors: { ",
        {{"allow_origins", "[\"https://a.example\"]"}},
        " } }]"}},
      {".routes.mirror", {"routes: [{ upstream: api, mirror: { ", {{"upstream", "api"}}, " } }]"}},
      {".routes.compression", {"routes: [{ upstream: api, compression: { ", {}, " } }]"}},
      {".ai",
       {"ai: { ",
        {{"providers", "{ llama: { base_url: \"http://192.0.2.9:1\" } }"}, {"prices", "p.yaml"}},
        " }"}},
      {".ai.budgets",
       {"ai: { prices: p.yaml, budgets: { new: { ", {{"dollars", "5"}}, " } }, " + llama + "}"}},
      {".ai.usage", {"ai: { usage: { ", {}, " }, " + llama + "}"}},
      {".ai.bypass", {"ai: { bypass: { ", {}, " }, " + llama + "}"}},
      {".ai.cache", {"ai: { cache: { ", {}, " }, " + llama + "}"}},
      {".ai.filters", {"ai: { filters: { new: { ", {{"find", "[email]"}}, " } }, " + llama + "}"}},
      {".ai.audit", {"ai: { audit: { ", {{"path", "/a.jsonl"}}, " }, " + llama + "}"}},
      {".ai.providers",
       {"ai: { providers: { new: { ", {{"base_url", "\"http://192.0.2.9:1\""}}, " } } }"}},
      {".ai.providers.timeouts", {"ai: { providers: { new: { timeouts: { ", {}, " } } } }"}},
      {".ai.models",
       {"ai: { models: { new: { ", {{"targets", "[{ provider: base }]"}}, " } }, " + llama + "}"}},
      {".ai.models.targets",
       {"ai: { models: { new: { targets: [{ ", {{"provider", "base"}}, " }] } }, " + llama + "}"}},
      {".overload", {"overload: { ", {}, " }"}},
      {".auth", {"auth: { new: { ", {}, " } }"}},
      {".auth.api_keys", {"auth: { new: { api_keys: { ", {{"keys", kKeys}}, " } } }"}},
      {".auth.api_keys.keys",
       {"auth: { new: { api_keys: { keys: [{ ",
        {{"name", "bob"}, {"sha256", std::string(64, '5')}},
        " }] } } }"}},
      {".auth.jwt", {"auth: { new: { jwt: { ", {{"jwks", "{ file: j }"}}, " } } }"}},
      {".auth.jwt.jwks", {"auth: { new: { jwt: { jwks: { ", {{"file", "j"}}, " } } } }"}},
      {".auth.external",
       {"auth: { new: { external: { ", {{"url", "\"http://192.0.2.1/\""}}, " } } }"}},
      {".default_route", {"default_route: { ", {}, " }"}},
      {".cluster", {"cluster: { ", {}, " }"}},
      {".cluster.redis",
       {"cluster: { redis: { ", {{"url", "\"rediss://192.0.2.6:6379\""}}, " } }"}},
      {".cluster.redis.tls",
       {"cluster: { redis: { url: \"rediss://192.0.2.6:6379\", tls: { ",
        {{"cert", "/other.pem"}},
        " } } }"}},
      {".limits", {"limits: { new: { ", {{"rate", "9/s"}}, " } }"}},
      {".limits.key", {"limits: { new: { rate: 9/s, key: [{ ", {}, " }] } }"}},
      {".bans", {"bans: { ", {}, " }"}},
      {".bans.rules", {"bans: { rules: [{ ", {{"when", "{ limit: per-client }"}}, " }] }"}},
      {".bans.rules.when", {"bans: { rules: [{ when: { ", {{"limit", "per-client"}}, " } }] }"}},
      {".guard", {"guard: { ", {}, " }"}},
      {".guard.rules", {"guard: { rules: [{ ", {{"to_ports", "[9]"}}, " }] }"}},
      {".sets", {"sets: { new: { ", {}, " } }"}},
      {".guard.rules.from", {"guard: { rules: [{ to_ports: [9], from: [{ ", {}, " }] }] }"}},
      {".guard.rules.to", {"guard: { rules: [{ to_ports: [9], to: [{ ", {}, " }] }] }"}},
      {".guard.rules.except.from",
       {"guard: { rules: [{ to_ports: [9], except: { from: [{ ", {}, " }] } }] }"}},
      {".guard.rules.except.to",
       {"guard: { rules: [{ to_ports: [9], except: { to: [{ ", {}, " }] } }] }"}},
      {".guard.per_source", {"guard: { per_source: { ", {{"syn", "9/s"}}, " } }"}},
      {".guard.per_service", {"guard: { per_service: { ", {{"syn", "9/s"}}, " } }"}},
      {".guard.rules.except", {"guard: { rules: [{ to_ports: [9], except: { ", {}, " } }] }"}},
  };
  // Pods stand wherever addresses do.
  for (const char* where :
       {".sets", ".listeners.access.allow", ".listeners.access.deny", ".routes.access.allow",
        ".routes.access.deny", ".intercept.local.except.from", ".intercept.forward.from",
        ".intercept.forward.except.from", ".intercept.output.except.from", ".limits.from",
        ".ai.identities.from", ".guard.rules.from", ".guard.rules.to", ".guard.rules.except.from",
        ".guard.rules.except.to"}) {
    const Context& around = all.at(where);
    all.try_emplace(std::string(where) + ".pods",
                    Context{around.open + "pods: { ", {{"labels", "{ tier: one }"}}, " }" + around.close});
  }
  return all;
}

// Fields whose examples need another neighbour than the rest.
const std::map<std::string, std::map<std::string, std::string>>& own_neighbours() {
  static const std::map<std::string, std::map<std::string, std::string>> all{
      {".intercept.marks.mark", {{"mask", "0xc00000"}}},
      {".upstreams.hash_on", {{"endpoints", "[\"192.0.2.78:80\"]"}, {"lb_policy", "maglev"}}},
      {".upstreams.endpoints.dns", {}},
      {".upstreams.endpoints.kubernetes", {}},
      {".upstreams.endpoints.srv", {}},
      {".upstreams.endpoints.family", {{"dns", "\"a.example:80\""}}},
      {".routes.upstream", {}},
      {".routes.upstreams", {}},
      {".listeners.tls.certificate_authority", {}},
      {".ai.providers.api_version",
       {{"kind", "azure"}, {"base_url", "\"https://a.example\""}}},
      {".routes.ai", {}},
      {".ai.identities.cgroups", {{"key", "bob"}}},
      {".auth.jwt.jwks.url", {}},
      {".auth.jwt.jwks.upstream", {{"url", "\"http://192.0.2.1/\""}}},
      {".routes.redirect", {}},
      {".routes.direct_response", {}},
      {".routes.rewrite.prefix", {{"host", "b.example"}}},
      {".guard.rules.rate", {{"to_ports", "[9]"}, {"action", "limit"}}},
      {".guard.rules.burst", {{"to_ports", "[9]"}, {"action", "limit"}, {"rate", "9/s"}}},
      {".limits.max", {{"unit", "concurrency"}}},
      {".limits.max_delay", {{"rate", "9/s"}, {"action", "delay"}}},
      {".bans.rules.when.event", {}},
      {".bans.rules.when.route", {{"event", "access_denied"}}},
      {".bans.rules.action", {{"when", "{ limit: per-client }"}, {"upstream", "api"}}},
      {".bans.rules.upstream", {{"when", "{ limit: per-client }"}, {"action", "route"}}},
      {".bans.rules.up_to", {{"when", "{ limit: per-client }"}, {"for", "1m"}}},
  };
  return all;
}

struct Case {
  std::string path;
  const Field* field;
  Context context;

  std::string text(const std::string& value) const {
    std::string entries;
    for (const auto& [name, other] : context.beside) {
      if (name != field->name) entries += name + ": " + other + ", ";
    }
    if (!value.empty()) entries += std::string(field->name) + ": " + value;
    return context.open + entries + context.close + "\n";
  }
};

void collect(const Field& object, const std::string& path, std::vector<Case>& cases) {
  const auto context = contexts().find(path);
  ASSERT_NE(context, contexts().end()) << "no context for the fields of " << path;
  for (const Field& field : object.children) {
    Case one{path + "." + std::string(field.name), &field, context->second};
    const auto own = own_neighbours().find(one.path);
    if (own != own_neighbours().end()) one.context.beside = own->second;
    cases.push_back(one);
    if (field.type == Type::object) collect(field, one.path, cases);
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  collect(schema(), "", cases);
  std::erase_if(cases, [](const Case& one) { return one.path == ".version"; });
  return cases;
}

ParseResult parse_case(const Case& one, const std::string& text) {
  // Examples of whole maps bring the base's names themselves.
  // So do those of the cluster, of which there is one.
  const bool whole = one.path.find('.', 1) == std::string::npos && one.field->shape == Shape::map;
  std::string base = whole ? "version: 1\n" : kBase;
  if (one.path.starts_with(".cluster")) base.erase(base.find("cluster:"));
  const PolicyFile files[] = {{"base.yaml", base}, {"case.yaml", text}};
  return parse(files);
}

TEST(Schema, EveryExampleParsesAndChangesTheConfiguration) {
  int changed = 0;
  for (const Case& one : all_cases()) {
    if (one.field->example.empty()) continue;
    const std::string text = one.text(std::string(one.field->example));
    SCOPED_TRACE(text);
    const ParseResult with = parse_case(one, text);
    ASSERT_THAT(shown(with.diagnostics), testing::IsEmpty());
    const ParseResult without = parse_case(one, one.text(""));
    if (!without.config) continue;  // a required field
    // The only listener is the listener anyhow.
    if (one.field->refers == "listeners") continue;
    EXPECT_NE(fingerprint(*with.config), fingerprint(*without.config));
    ++changed;
  }
  EXPECT_GT(changed, 90);
}

TEST(Schema, EveryFallbackMeansTheSameAsLeavingItOut) {
  int same = 0;
  for (const Case& one : all_cases()) {
    if (one.field->fallback.empty()) continue;
    // Asking for it by name makes the implicit upstream, which is otherwise made where it can be
    // reached.
    if (one.path.starts_with(".default_route.") && one.field->fallback == kOriginalDestination)
      continue;
    const std::string text = one.text(std::string(one.field->fallback));
    SCOPED_TRACE(text);
    const ParseResult with = parse_case(one, text);
    const ParseResult without = parse_case(one, one.text(""));
    if (one.path == ".intercept.marks.mark" || one.path == ".bans.rules.action")
      continue;  // its example's neighbour is not the default's
    if (one.path == ".listeners.tls.client_auth")
      continue;  // with client_ca beside it, there is a warning that nobody is asked
    if (one.path == ".routes.ai") continue;  // without it, a route needs an upstream
    ASSERT_THAT(shown(with.diagnostics), testing::IsEmpty());
    ASSERT_TRUE(without.config);
    EXPECT_EQ(fingerprint(*with.config), fingerprint(*without.config));
    ++same;
  }
  EXPECT_GT(same, 45);
}

TEST(Schema, EveryFieldIsDocumented) {
  for (const Case& one : all_cases()) {
    SCOPED_TRACE(one.path);
    EXPECT_TRUE(one.field->doc.ends_with('.') || one.field->doc.ends_with("…"));
    // Only a word without an alternative has no example but its fallback.
    EXPECT_TRUE(!one.field->example.empty() || one.field->words.size() == 1);
    EXPECT_NE(one.field->example, one.field->fallback);
  }
}

}  // namespace
}  // namespace sluice::policy
