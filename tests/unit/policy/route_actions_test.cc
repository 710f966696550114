// What routes do besides forwarding, as far as it is text: variables, paths, origins.
#include "policy/route_actions.h"

#include <gmock/gmock.h>

#include "parsing.h"
#include "policy/snapshot.h"

namespace sluice::policy {
namespace {

using ::testing::HasSubstr;

struct Values final : VariableSource {
  explicit Values(std::string_view at = "/a") : path(at) {}
  std::string_view variable(Variable name, std::string_view argument) const override {
    if (name == Variable::claim) return argument;
    return name == Variable::path ? path : "203.0.113.7";
  }
  std::string_view path;
};

std::string expand(std::string_view text, const Values& values = Values()) {
  const auto made = FieldTemplate::parse(text);
  EXPECT_TRUE(made) << made.error();
  std::string out;
  if (made) made->append_to(out, values);
  return out;
}

TEST(FieldTemplate, PutsValuesInPlaceOfVariables) {
  EXPECT_EQ(expand("plain"), "plain");
  EXPECT_EQ(expand("%client_ip%"), "203.0.113.7");
  EXPECT_EQ(expand("for=%client_ip%; at=%path%."), "for=203.0.113.7; at=/a.");
  EXPECT_EQ(expand("<%claim.sub%>"), "<sub>");
  EXPECT_EQ(expand("100%%"), "100%");
  EXPECT_EQ(expand("%%client_ip%%"), "%client_ip%");
}

TEST(FieldTemplate, LetsNoValueEndTheLine) {
  EXPECT_EQ(expand("%path%", Values("/\r\nx-evil: 1\x7f")), "/??x-evil: 1?");
  EXPECT_EQ(expand("%path%", Values(std::string_view("a\0b", 3))), "a?b");
}

TEST(FieldTemplate, SaysWhatIsWrong) {
  EXPECT_THAT(FieldTemplate::parse("50%").error(), HasSubstr("`%%`"));
  EXPECT_THAT(FieldTemplate::parse("%client_pi%").error(),
              HasSubstr("did you mean `client_ip`?"));
}

std::string changed(PathChange::Kind kind, std::string value, std::string prefix,
                    std::string_view path) {
  std::string out;
  const PathMatch match{prefix.empty() ? PathMatch::Kind::any : PathMatch::Kind::prefix, prefix};
  change_path({kind, std::move(value)}, match, path, out);
  return out;
}

// The table of the Gateway API's ReplacePrefixMatch.
TEST(ChangePath, ReplacesWholeSegments) {
  constexpr auto kPrefix = PathChange::Kind::prefix;
  EXPECT_EQ(changed(kPrefix, "/xyz", "/foo", "/foo/bar"), "/xyz/bar");
  EXPECT_EQ(changed(kPrefix, "/xyz/", "/foo", "/foo/bar"), "/xyz/bar");
  EXPECT_EQ(changed(kPrefix, "/xyz", "/foo/", "/foo/bar"), "/xyz/bar");
  EXPECT_EQ(changed(kPrefix, "/xyz", "/foo", "/foo"), "/xyz");
  EXPECT_EQ(changed(kPrefix, "/xyz", "/foo", "/foo/"), "/xyz/");
  EXPECT_EQ(changed(kPrefix, "/", "/foo", "/foo/bar"), "/bar");
  EXPECT_EQ(changed(kPrefix, "/", "/foo", "/foo/"), "/");
  EXPECT_EQ(changed(kPrefix, "/", "/foo", "/foo"), "/");
  EXPECT_EQ(changed(kPrefix, "/new", "", "/x"), "/new/x");
  EXPECT_EQ(changed(kPrefix, "/new", "/", "/x"), "/new/x");
  EXPECT_EQ(changed(kPrefix, "/new", "", "*"), "*");
  EXPECT_EQ(changed(PathChange::Kind::full, "/all", "/foo", "/foo/bar"), "/all");
}

Cors cors(std::vector<std::string> origins) {
  Cors made;
  made.allow_origins = std::move(origins);
  return made;
}

TEST(Cors, KnowsWhichOriginsMayAsk) {
  const CorsPolicy policy(cors({"https://a.example", "https://*.b.example:8443"}));
  EXPECT_TRUE(policy.allows_origin("https://a.example"));
  EXPECT_TRUE(policy.allows_origin("HTTPS://A.example"));
  EXPECT_FALSE(policy.allows_origin("http://a.example"));
  EXPECT_FALSE(policy.allows_origin("https://a.example.evil.example"));
  EXPECT_FALSE(policy.allows_origin("https://a.example:444"));
  EXPECT_TRUE(policy.allows_origin("https://x.y.b.example:8443"));
  EXPECT_FALSE(policy.allows_origin("https://b.example:8443"));
  EXPECT_FALSE(policy.allows_origin("https://.b.example:8443"));
  EXPECT_FALSE(policy.allows_origin("https://evil.example/.b.example:8443"));
  EXPECT_FALSE(policy.allows_origin("null"));
  EXPECT_FALSE(policy.allows_origin(""));
}

TEST(Cors, AStarIsNotSentWithCredentials) {
  Cors config = cors({"*"});
  config.allow_methods = {"*"};
  config.allow_headers = {"*"};
  std::string out;
  CorsPolicy(config).preflight("https://a.example", "PUT", "x-a", out);
  EXPECT_EQ(out,
            "access-control-allow-origin: *\r\naccess-control-allow-methods: *\r\n"
            "access-control-allow-headers: *\r\naccess-control-max-age: 5\r\n");
  config.allow_credentials = true;
  out.clear();
  CorsPolicy(config).preflight("https://a.example", "PUT", "x-a", out);
  EXPECT_EQ(out,
            "vary: origin\r\naccess-control-allow-origin: https://a.example\r\n"
            "access-control-allow-credentials: true\r\naccess-control-allow-methods: PUT\r\n"
            "access-control-allow-headers: x-a\r\naccess-control-max-age: 5\r\n");
}

TEST(Cors, AnotherOriginGetsNothingButVary) {
  std::string out;
  CorsPolicy(cors({"https://a.example"})).preflight("https://evil.example", "PUT", "", out);
  EXPECT_EQ(out, "vary: origin\r\n");
}

TEST(Cors, AnAnswerSaysWhatScriptsMayRead) {
  Cors config = cors({"https://a.example"});
  config.expose_headers = {"x-total", "etag"};
  std::string out;
  CorsPolicy(config).answer("https://a.example", out);
  EXPECT_EQ(out,
            "vary: origin\r\naccess-control-allow-origin: https://a.example\r\n"
            "access-control-expose-headers: x-total, etag\r\n");
  out.clear();
  CorsPolicy(config).answer("https://evil.example", out);
  EXPECT_EQ(out, "vary: origin\r\n");
  out.clear();
  CorsPolicy(config).answer("", out);
  EXPECT_EQ(out, "vary: origin\r\n") << "no Origin: the answer depends on it all the same";
}

TEST(Cors, AFixedListIsSentWhateverIsAskedFor) {
  Cors config = cors({"https://a.example"});
  config.allow_methods = {"GET", "PUT"};
  config.allow_headers = {"x-a"};
  config.max_age = 600s;
  std::string out;
  CorsPolicy(config).preflight("https://a.example", "DELETE", "x-b", out);
  EXPECT_EQ(out,
            "vary: origin\r\naccess-control-allow-origin: https://a.example\r\n"
            "access-control-allow-methods: GET, PUT\r\naccess-control-allow-headers: x-a\r\n"
            "access-control-max-age: 600\r\n");
}

TEST(Cors, NothingThatIsSentBackEndsALine) {
  Cors config = cors({"*"});
  config.allow_methods = {"*"};
  config.allow_headers = {"*"};
  config.allow_credentials = true;
  std::string out;
  CorsPolicy(config).preflight("https://a.example\r\nx: y", "GET", "x-a", out);
  EXPECT_EQ(out, "vary: origin\r\n");
  out.clear();
  CorsPolicy(config).preflight("https://a.example", "GET\r\nx: y", "x-a\r\nx: y", out);
  EXPECT_EQ(out.find("x: y"), std::string::npos) << out;
}

std::string errors_of(const std::string& route) {
  const PolicyFile file{
      "p.yaml",
      "version: 1\nlisteners: { web: {} }\n"
      "upstreams: { api: { endpoints: [\"192.0.2.1:80\"] }, patient: { endpoints: "
      "[\"192.0.2.1:80\"], retry: { per_try_timeout: 5s } } }\nroutes:\n  - { " +
          route + " }\n"};
  std::string all;
  for (const Diagnostic& diagnostic : parse(std::span(&file, 1)).diagnostics)
    all += diagnostic.to_string() + "\n";
  return all;
}

TEST(RouteActions, EachMistakeIsSaidWithItsPlace) {
  EXPECT_THAT(errors_of("upstream: api, request_headers: { set: { host: x } }"),
              HasSubstr("p.yaml:5:48: error: request_headers of route `web * *` cannot change "
                        "`host` (use `rewrite"));
  EXPECT_THAT(errors_of("upstream: api, response_headers: { remove: [Content-Length] }"),
              HasSubstr("cannot change `content-length`"));
  EXPECT_THAT(errors_of("upstream: api, request_headers: { set: { x-a: \"%nothing%\" } }"),
              HasSubstr("there is no variable `%nothing%`"));
  EXPECT_THAT(errors_of("upstream: api, path: { exact: /a }, rewrite: { prefix: /b }"),
              HasSubstr("rewrite.prefix of route `web * =/a` needs a route with a path prefix"));
  EXPECT_THAT(errors_of("redirect: {}"), HasSubstr("leads to itself"));
  EXPECT_THAT(errors_of("redirect: { scheme: https }, upstream: api"),
              HasSubstr("`redirect` and `upstream` cannot both stand"));
  EXPECT_THAT(errors_of("direct_response: { status: 204, body: x }"),
              HasSubstr("a 204 has no body"));
  EXPECT_THAT(errors_of("direct_response: { body: \"a\\0b\" }"),
              HasSubstr("direct_response.body: holds a control character (plain text, line ends "
                        "and tabs)"));
  EXPECT_THAT(errors_of("direct_response: { body: x, content_type: \"a\\nb\" }"),
              HasSubstr("direct_response.content_type: holds a control character"));
  EXPECT_EQ(errors_of("direct_response: { body: \"a\\n\\tb\\n\" }"), "");
  EXPECT_THAT(errors_of("upstream: api, cors: { allow_origins: [a.example] }"),
              HasSubstr("`a.example` is not an origin"));
  EXPECT_THAT(
      errors_of("upstream: api, cors: { allow_origins: [\"*\"], allow_credentials: true }"),
      HasSubstr("error: cors of route `web * *`: allow_credentials and any origin would let "
                "every page act as its visitor"));
  EXPECT_EQ(errors_of("upstream: api, cors: { allow_origins: [\"https://*.a.example\"], "
                      "allow_credentials: true }"),
            "");
  EXPECT_THAT(errors_of("path: /x"), HasSubstr("or `redirect`, `direct_response` or `ai: true`"));
  EXPECT_EQ(errors_of("redirect: { scheme: https }"), "");
}

TEST(RouteActions, WhatDoesNothingIsAWarning) {
  EXPECT_THAT(errors_of("upstream: api, methods: [get]"),
              HasSubstr("p.yaml:5:5: warning: route `web * * get`: no client sends the method `get` "
                        "(methods are told apart by case: GET)"));
  EXPECT_EQ(errors_of("upstream: api, methods: [GET, frobnicate]"), "");
  EXPECT_THAT(errors_of("upstream: api, compression: { types: [text/html, text/event-stream] }"),
              HasSubstr("`text/event-stream` is never compressed"));
  EXPECT_EQ(errors_of("upstream: api, compression: { types: [text/html, \"text/*\"] }"), "");
  EXPECT_THAT(
      errors_of("upstream: patient, timeout: 2s"),
      HasSubstr("its timeout ends before retry.per_try_timeout of upstream `patient` does"));
  EXPECT_EQ(errors_of("upstream: patient, timeout: 6s"), "");
  EXPECT_EQ(errors_of("upstream: patient"), "");
}

TEST(Listeners, ProxyHeadersAreBelievedOfTrustedProxiesAlone) {
  const std::string listener = "version: 1\nlisteners: { web: { accept_proxy_protocol: v2 } }\n";
  const auto said = [](const std::string& text) {
    const PolicyFile file{"p.yaml", text};
    std::string all;
    for (const Diagnostic& diagnostic : parse(std::span(&file, 1)).diagnostics)
      all += diagnostic.to_string() + "\n";
    return all;
  };
  EXPECT_THAT(said(listener), HasSubstr("accept_proxy_protocol believes trusted_proxies alone, and "
                                        "there are none"));
  EXPECT_EQ(said(listener + "trusted_proxies: [192.0.2.1]\n"), "");
}

TEST(RouteActions, ARouteThatOnlyForwardsHasNone) {
  const PolicyFile file{"p.yaml",
                        "version: 1\nlisteners: { web: {} }\n"
                        "upstreams: { api: { endpoints: [\"192.0.2.1:80\"] } }\n"
                        "routes: [{ upstream: api }, { path: /x, upstream: api, max_body: 1KiB }]"};
  const auto snapshot = Snapshot::compile(*parse(std::span(&file, 1)).config);
  EXPECT_EQ(snapshot->route(0).actions, nullptr);
  EXPECT_NE(snapshot->route(1).actions, nullptr);
}

}  // namespace
}  // namespace sluice::policy
