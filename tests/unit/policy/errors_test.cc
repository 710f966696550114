// Every way to get a policy wrong: the exact place, what is wrong, what would be right.
#include <gmock/gmock.h>

#include "parsing.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

struct Wrong {
  const char* name;
  const char* text;
  std::vector<std::string> errors;
};

void PrintTo(const Wrong& wrong, std::ostream* out) {
  *out << wrong.name;
}

class Errors : public testing::TestWithParam<Wrong> {};

TEST_P(Errors, AreLocatedAndSayWhatWouldBeRight) {
  const ParseResult result = parse_text(GetParam().text);
  EXPECT_THAT(shown(result.diagnostics), ElementsAreArray(GetParam().errors));
  EXPECT_FALSE(result.config.has_value());
}

const Wrong kSyntax[] = {
    {"Empty", "", {"p.yaml: error: the policy needs `version` (such as `version: 1`)"}},
    {"NoVersion",
     "workers: 2\n",
     {"p.yaml:1:1: error: the policy needs `version` (such as `version: 1`)"}},
    {"OtherVersion",
     "version: 2\n",
     {"p.yaml:1:10: error: version: `2` is out of range (it must be 1)"}},
    {"List", "- 1\n", {"p.yaml:1:1: error: a policy is a map of keys, such as `version: 1`"}},
    {"NotYaml",
     "version: 1\nlisteners: { web: \n",
     {"p.yaml:3:1: error: not YAML: the file ends inside the map or list of line 2 (close its "
      "bracket)"}},
    {"NotUtf8",
     "version: 1\nworkers: \xff\n",
     {"p.yaml:2:10: error: not YAML: invalid leading UTF-8 octet"}},
    {"Tab",
     "version: 1\nlisteners:\n\tweb: {}\n",
     {"p.yaml:3:1: error: not YAML: a tab cannot indent (use spaces)"}},
    {"Alias",
     "version: 1\nprotect: { host_ports: &p [22] }\nlogs: *p\n",
     {"p.yaml:3:7: error: aliases (`*name`) are not part of a policy (write the value out)"}},
    {"Tag",
     "version: !!int 1\n",
     {"p.yaml:1:10: error: tags (`!name`) are not part of a policy (remove the tag)"}},
    {"SecondDocument",
     "version: 1\n---\nversion: 1\n",
     {"p.yaml:2:1: error: a policy file holds one YAML document (make what follows `---` a file of "
      "its own)"}},
    {"MapAsKey", "version: 1\n{ a: b }: c\n", {"p.yaml:2:1: error: a key must be plain text"}},
};

const Wrong kSchema[] = {
    {"UnknownKeyNear",
     "version: 1\nlisteners: { web: { bnid: \"127.0.0.1:80\" } }\n",
     {"p.yaml:2:21: error: unknown key `bnid` in listeners.web (did you mean `bind`?)"}},
    {"UnknownKeyFar",
     "version: 1\nlogs: { zzzzzz: 1 }\n",
     {"p.yaml:2:9: error: unknown key `zzzzzz` in logs (known: access)"}},
    {"LaterIssuesFieldIsUnknown",
     "version: 1\nh3: { keys: required }\n",
     {"p.yaml:2:1: error: unknown key `h3` in the policy (known: version, state_dir, workers, "
      "protect, trusted_proxies, admin, metrics, tracing, logs, intercept, listeners, upstreams, "
      "…)"}},
    {"AiProviderIsNotThere",
     "version: 1\nai: { providers: { openai: {} }, models: { m: { targets: [{ provider: opnai }] } "
     "} }\n",
     {"p.yaml:2:44: error: model `m`: there is no provider `opnai` (did you mean `openai`?)"}},
    {"AiKeyInThePolicy",
     "version: 1\nai: { providers: { openai: { key: sk-secret } } }\n",
     {"p.yaml:2:20: error: provider `openai`: a key is not in the policy, it is pointed to "
      "(`file:/run/secrets/NAME` or `${NAME}`)"}},
    {"AiProviderWithoutAUrl",
     "version: 1\nai: { providers: { a: { kind: azure }, b: { base_url: \"ftp://x\" } } }\n",
     {"p.yaml:2:20: error: provider `a` needs `base_url` (such as https://NAME.openai.azure.com or "
      "http://127.0.0.1:11434)",
      "p.yaml:2:40: error: provider `b`: base_url is not a URL (such as "
      "https://api.example.com/v1)"}},
    {"AiStarInTheMiddle",
     "version: 1\nai: { providers: { openai: {} }, models: { \"a*b\": { targets: [{ provider: "
     "openai }] } } }\n",
     {"p.yaml:2:44: error: model `a*b`: `*` stands at the end alone (such as `claude-*`)"}},
    {"AiRouteWithoutAi",
     "version: 1\nlisteners: { web: {} }\nroutes: [{ ai: true }]\n",
     {"p.yaml:3:10: error: route `web * *` is served by `ai`, which is not there (such as `ai: { "
      "providers: { openai: { key: \"${OPENAI_API_KEY}\" } } }`)"}},
    {"CertificateAuthority",
     "version: 1\nlisteners: { web: { protocol: tcp, tls: { certificate_authority: { cert: a.pem, "
     "key: a.key, hosts: [a.example, \"*.com\", 10.0.0.1] } } } }\n",
     {"p.yaml:2:43: error: listener `web` speaks plain TCP: nothing reads what is decrypted "
      "(`protocol: auto`, or `http`)",
      "p.yaml:2:43: error: listener `web`: `*.com` is no name that a certificate can be made for "
      "(such as api.openai.com, or `*.openai.azure.com` for one label)",
      "p.yaml:2:43: error: listener `web`: `10.0.0.1` is no name that a certificate can be made "
      "for "
      "(such as api.openai.com, or `*.openai.azure.com` for one label)"}},
    {"AiBypassOfNobody",
     "version: 1\nlisteners: { web: {} }\nupstreams: { a: { endpoints: [\"192.0.2.1:1\"] } }\nai: "
     "{ "
     "providers: { openai: { upstream: a } }, bypass: {} }\n",
     {"p.yaml:4:47: error: ai.bypass: every provider has an upstream of its own, so that no host "
      "is "
      "known to be a vendor's (`hosts: [api.openai.com]`)"}},
    {"AiBypassByPattern",
     "version: 1\nai: { providers: { openai: {} }, bypass: { hosts: [\"*.openai.com\"] } }\n",
     {"p.yaml:2:34: error: ai.bypass: `*.openai.com` is no host name that resolves (such as "
      "api.openai.com, without `*`, scheme and path)"}},
    {"DuplicateKey",
     "version: 1\nworkers: 1\nworkers: 2\n",
     {"p.yaml:3:1: error: `workers` is set twice in the policy (first at p.yaml:2:1)"}},
    {"DuplicateEntry",
     "version: 1\nlisteners:\n  web: {}\n  web: {}\n",
     {"p.yaml:4:3: error: `web` is set twice in listeners (first at p.yaml:3:3)"}},
    {"MisspeltRequiredIsOneError",
     "version: 1\nlimits: { a: { raet: 1/s } }\n",
     {"p.yaml:2:16: error: unknown key `raet` in limits.a (did you mean `rate`?)"}},
    {"MissingRequired",
     "version: 1\nlimits: { a: { burst: 3 } }\n",
     {"p.yaml:2:11: error: limits.a needs `rate` (such as `rate: 100/s`)"}},
    {"ScalarForMap",
     "version: 1\nlisteners: { web: http }\n",
     {"p.yaml:2:19: error: listeners.web is a map of keys, not a single value (known: bind, "
      "protocol, "
      "max_connections, access, limits, accept_proxy_protocol, cancel_on_close, client_from, "
      "forwarded, request_id, express, trace_context, …)"}},
    {"ExpressBesideTls",
     "version: 1\nlisteners:\n  web: { express: both, protocol: tls }\n",
     {"p.yaml:3:3: error: listener `web`: TLS never goes by the express lane (remove `express`: it is "
      "for connections without TLS)"}},
    {"ScalarForList",
     "version: 1\nprotect: { host_ports: 22 }\n",
     {"p.yaml:2:24: error: protect.host_ports is a list, not a single value (did you mean "
      "`[22]`?)"}},
    {"ListForMapOfNames",
     "version: 1\nlisteners: [web]\n",
     {"p.yaml:2:12: error: listeners is a map of names, not a list (such as { web: { bind: "
      "\"127.0.0.1:8080\" } })"}},
    {"MapForValue",
     "version: 1\nworkers: { a: 1 }\n",
     {"p.yaml:2:10: error: workers is a single value, not a map (such as 2)"}},
    {"NoValue", "version: 1\nworkers:\n", {"p.yaml:2:1: error: workers has no value (such as 2)"}},
    {"BadName",
     "version: 1\nlisteners: { \"we b\": {} }\n",
     {"p.yaml:2:14: error: listeners: `we b` is not a name (letters, digits, `.`, `_` and `-`, at "
      "most 63, "
      "beginning with a letter or digit)"}},
    {"DurationWithoutUnit",
     "version: 1\nlisteners: { web: { timeouts: { detect: 200, idle: 60 } } }\n",
     {"p.yaml:2:41: error: listeners.web.timeouts.detect: `200` has no unit (did you mean `200ms`? "
      "Units: us, "
      "ms, s, m, h, d)",
      "p.yaml:2:52: error: listeners.web.timeouts.idle: `60` has no unit (did you mean `60s`? "
      "Units: us, ms, s, "
      "m, h, d)"}},
    {"DurationOddUnit",
     "version: 1\nlisteners: { web: { timeouts: { idle: 60 sec } } }\n",
     {"p.yaml:2:39: error: listeners.web.timeouts.idle: `60 sec` is not a duration (a whole number "
      "and us, ms, s, "
      "m, h or d, such as 90s)"}},
    {"DurationOverflow",
     "version: 1\nlisteners: { web: { timeouts: { idle: 9223372036854775807h } } }\n",
     {"p.yaml:2:39: error: listeners.web.timeouts.idle: `9223372036854775807h` is not a duration "
      "(a whole number "
      "and us, ms, s, m, h or d, such as 90s)"}},
    {"DurationRange",
     "version: 1\nlisteners: { web: { timeouts: { idle: 1ms } } }\n",
     {"p.yaml:2:39: error: listeners.web.timeouts.idle: `1ms` is out of range (100ms to 24h)"}},
    {"RateWithoutUnit",
     "version: 1\nlimits: { a: { rate: 100 } }\n",
     {"p.yaml:2:22: error: limits.a.rate: `100` has no unit (did you mean `100/s`? Units: /s, /m, "
      "/h, /d)"}},
    {"RateZero",
     "version: 1\nlimits: { a: { rate: 0/s } }\n",
     {"p.yaml:2:22: error: limits.a.rate: `0/s` is not a rate (a whole number above 0 and /s, /m, "
      "/h or /d, such as "
      "100/s)"}},
    {"RateTooHigh",
     "version: 1\nlimits: { a: { rate: 2000000/s } }\n",
     {"p.yaml:2:22: error: limits.a.rate: `2000000/s` is out of range (at most 1000000/s)"}},
    {"NotANumber",
     "version: 1\nlisteners: { web: { max_connections: many } }\n",
     {"p.yaml:2:38: error: listeners.web.max_connections: `many` is not a whole number (such as "
      "1000)"}},
    {"Octal",
     "version: 1\nlisteners: { web: { max_connections: 0777 } }\n",
     {"p.yaml:2:38: error: listeners.web.max_connections: `0777` is not a whole number (such as "
      "1000)"}},
    {"Negative",
     "version: 1\nworkers: -1\n",
     {"p.yaml:2:10: error: workers: `-1` is not a whole number (such as 2)"}},
    {"YesIsNoBoolean",
     "version: 1\nlisteners: { w: {} }\nintercept: { local: [{ to: [10.0.0.0/8], ports: [1], "
     "take_over: yes }] }\n",
     {"p.yaml:3:65: error: intercept.local[0].take_over: `yes` is not true or false (did you mean "
      "`true`?)"}},
    {"UnknownWord",
     "version: 1\nlisteners: { web: { protocol: htpt } }\n",
     {"p.yaml:2:31: error: listeners.web.protocol: `htpt` is not known (did you mean `http`?)"}},
    {"HostBits",
     "version: 1\nmetrics: { bind: \"127.0.0.1:1\", allow: [10.0.0.1/8] }\n",
     {"p.yaml:2:41: error: metrics.allow[0]: `10.0.0.1/8` has bits set after its prefix (did you "
      "mean "
      "`10.0.0.0/8`?)"}},
    {"NotAPrefix",
     "version: 1\nmetrics: { bind: \"127.0.0.1:1\", allow: [10.0.0/8] }\n",
     {"p.yaml:2:41: error: metrics.allow[0]: `10.0.0/8` is not an address or prefix (such as "
      "10.0.0.0/8, "
      "2001:db8::/32 or 192.0.2.7)"}},
    {"NoPort",
     "version: 1\nupstreams: { a: { endpoints: [1.2.3.4, \"::1\"] } }\n",
     {"p.yaml:2:31: error: upstreams.a.endpoints[0]: `1.2.3.4` has no port (such as 1.2.3.4:8080)",
      "p.yaml:2:40: error: upstreams.a.endpoints[1]: `::1` has no port (such as [::1]:8080)"}},
    {"PortZero",
     "version: 1\nmetrics: { bind: \"127.0.0.1:0\" }\n",
     {"p.yaml:2:18: error: metrics.bind: `127.0.0.1:0` has port 0 (1 to 65535)"}},
    {"ConsoleAtMetrics",
     "version: 1\nadmin: { bind: \"127.0.0.1:1\" }\nmetrics: { bind: \"127.0.0.1:1\" }\n",
     {"p.yaml:2:1: error: admin.bind 127.0.0.1:1 is the address of metrics.bind (give the console "
      "a "
      "port of its own)"}},
    {"TracesToNoUrl",
     "version: 1\ntracing: { endpoint: \"127.0.0.1:4318\" }\n",
     {"p.yaml:2:1: error: tracing.endpoint `127.0.0.1:4318` is not an http or https URL (such as "
      "http://127.0.0.1:4318)"}},
    {"EndpointNowhere",
     "version: 1\nupstreams: { a: { endpoints: [{ weight: 2 }] } }\n",
     {"p.yaml:2:31: error: an endpoint of upstream `a` is nowhere (`address`, `dns`, `srv` or "
      "`kubernetes`)"}},
    {"EndpointName",
     "version: 1\nupstreams: { a: { endpoints: [\"api.internal:80\"] } }\n",
     {"p.yaml:2:31: error: upstreams.a.endpoints[0]: `api.internal:80` is not an address with a "
      "port (such as 192.0.2.10:8080 or \"[2001:db8::10]:8080\"; a name is resolved by `{ dns: "
      "\"api.internal:8080\" }`)"}},
    {"EndpointNameWithoutPort",
     "version: 1\nupstreams: { a: { endpoints: [{ dns: api.internal }] } }\n",
     {"p.yaml:2:38: error: upstreams.a.endpoints[0].dns: `api.internal` has no port (such as "
      "api.internal:8080)"}},
    {"HashWithoutMaglev",
     "version: 1\nupstreams: { a: { endpoints: [\"1.2.3.4:80\"], hash_on: { header: x } } }\n",
     {"p.yaml:2:14: error: upstream `a`: hash_on is what maglev looks up (`lb_policy: maglev`, or "
      "remove hash_on)"}},
    {"ShortStickyKey",
     "version: 1\nupstreams: { a: { endpoints: [\"1.2.3.4:80\"], sticky: { key: secret } } }\n",
     {"p.yaml:2:14: error: upstream `a`: sticky.key is shorter than 16 bytes (a long random one, "
      "best in a file: `openssl rand -hex 32`)"}},
    {"HostName",
     "version: 1\nmetrics: { bind: \"localhost:80\" }\n",
     {"p.yaml:2:18: error: metrics.bind: `localhost:80` is not an address with a port (such as "
      "192.0.2.10:8080 or "
      "\"[2001:db8::10]:8080\"; names are not resolved)"}},
    {"Percent",
     "version: 1\nupstreams: { a: { endpoints: [\"1.2.3.4:80\"], retry: { budget: 20 } } }\n",
     {"p.yaml:2:63: error: upstreams.a.retry.budget: `20` is not a percentage (0% to 100%, such as "
      "20%)"}},
    {"Share",
     "version: 1\ntracing: { endpoint: \"http://127.0.0.1:4318\", sample: 0.01 }\n",
     {"p.yaml:2:55: error: tracing.sample: `0.01` is not a percentage (0% to 100%, such as 0.5%)"}},
    {"AdminToken",
     "version: 1\nadmin: { token: /etc/token }\n",
     {"p.yaml:2:1: error: admin.token is not the name of a file (such as "
      "file:/etc/sluice/console.token, so that a new one counts at once)"}},
    {"ControlCharactersAreNotShown",
     "version: 1\nworkers: \"a\\nb\\e[2J\"\n",
     {"p.yaml:2:10: error: workers: `a?b?[2J` is not a whole number (such as 2)"}},
};

const Wrong kReferences[] = {
    {"UnknownListener",
     "version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } }\n"
     "routes: [{ listener: wbe, upstream: api }]\n",
     {"p.yaml:4:22: error: routes[0].listener: there is no listener `wbe` (did you mean `web`?)"}},
    {"UnknownUpstreamInList",
     "version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } }\n"
     "routes: [{ upstreams: [{ name: apj, weight: 2 }] }]\n",
     {"p.yaml:4:32: error: routes[0].upstreams[0].name: there is no upstream `apj` (did you mean "
      "`api`?)"}},
    {"UnknownLimit",
     "version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } }\n"
     "routes: [{ upstream: api, limits: [x] }]\n",
     {"p.yaml:4:36: error: routes[0].limits[0]: there is no limit `x` (the policy has no limits)"}},
    {"UnknownLimitOfBan",
     "version: 1\nlimits: { client: { rate: 1/s } }\nbans: { rules: [{ when: { limit: cleint } }] "
     "}\n",
     {"p.yaml:3:34: error: bans.rules[0].when.limit: there is no limit `cleint` (did you mean "
      "`client`?)"}},
    {"UnknownDefault",
     "version: 1\ndefault_route: { local: nowhere }\n",
     {"p.yaml:2:25: error: default_route.local: there is no upstream `nowhere` (the policy has no "
      "upstreams)"}},
    {"StatusOutOfRange",
     "version: 1\ndefault_route: { local: 99 }\n",
     {"p.yaml:2:25: error: default_route.local: `99` is not an HTTP status (200 to 599, or the "
      "name of an "
      "upstream)"}},
    {"ListenerNeeded",
     "version: 1\nlisteners: { a: {}, b: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } "
     "}\n"
     "routes: [{ upstream: api }]\n",
     {"p.yaml:4:10: error: route ` * *` needs `listener` (known: a, b)"}},
};

const Wrong kRoutes[] = {
    {"Duplicate",
     "version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } "
     "}\nroutes:\n"
     "  - { host: A.example, path: /v1, upstream: api }\n  - { host: a.example, path: /v1/, "
     "upstream: api }\n",
     {"p.yaml:6:5: error: route `web a.example /v1/` never matches (the route at p.yaml:5:5 "
      "matches the same requests)"}},
    {"SameName",
     "version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } "
     "}\nroutes:\n"
     "  - { name: x, path: /a, upstream: api }\n  - { name: x, path: /b, upstream: api }\n",
     {"p.yaml:6:5: error: two routes are named `x` (the other at p.yaml:5:5)"}},
    {"NoUpstream",
     "version: 1\nlisteners: { web: {} }\nroutes: [{ path: /a }]\n",
     {"p.yaml:3:10: error: route `web * /a` has no upstream (such as `upstream: api`, or "
      "`redirect`, `direct_response` or `ai: true`)"}},
    {"AllWeightsZero",
     "version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } }\n"
     "routes: [{ upstreams: [{ name: api, weight: 0 }] }]\n",
     {"p.yaml:4:10: error: every upstream of route `web * *` has weight 0"}},
    {"UpstreamTwice",
     "version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } }\n"
     "routes: [{ upstreams: [api, api] }]\n",
     {"p.yaml:4:10: error: route `web * *` names upstream `api` twice (give it one weight)"}},
    {"HostOnTcp",
     "version: 1\nlisteners: { web: { protocol: tcp } }\nupstreams: { api: { endpoints: "
     "[\"1.2.3.4:80\"] } }\n"
     "routes: [{ host: a.example, upstream: api }]\n",
     {"p.yaml:4:10: error: route `web a.example *` matches by what HTTP says, but listener "
      "`web` speaks plain TCP (leave host, path, methods, headers and query out, or set "
      "`protocol: http` or `auto`)"}},
    {"Loop",
     "version: 1\nlisteners: { web: { bind: \"127.0.0.1:80\" } }\nroutes: [{ upstream: "
     "original_destination }]\n",
     {"p.yaml:3:10: error: route `web * *` sends to the original destination, which on listener "
      "`web` is the "
      "listener itself (only what intercept.forward or intercept.output catches has another one)"}},
    {"LocalLoop",
     "version: 1\ndefault_route: { local: original_destination }\n",
     {"p.yaml:2:1: error: default_route.local: the original destination of a local connection is "
      "the listener "
      "itself (a status, or an upstream with endpoints)"}},
    {"BadHostAndPaths",
     "version: 1\nlisteners: { web: {} }\nupstreams: { api: { endpoints: [\"1.2.3.4:80\"] } }\n"
     "routes: [{ host: \"a.example:80\", path: v1, upstream: api }, { path: /a/../b, upstream: api "
     "}, { path: "
     "\"/a?b\", upstream: api }]\n",
     {"p.yaml:4:18: error: routes[0].host: `a.example:80` is not a host (such as api.example.com, "
      "*.example.com or "
      "192.0.2.7; without a port)",
      "p.yaml:4:40: error: routes[0].path: `v1` is not a path (it begins with `/`)",
      "p.yaml:4:69: error: routes[1].path: `/a/../b` is not normalised (paths are matched without "
      "empty, `.` and "
      "`..` segments)",
      "p.yaml:4:103: error: routes[2].path: `/a?b` holds a query or fragment (routes match the "
      "path alone)"}},
};

const Wrong kOther[] = {
    {"BothBind",
     "version: 1\nlisteners:\n  a: { bind: \"127.0.0.1:80\" }\n  b: { bind: \"127.0.0.1:80\" }\n",
     {"p.yaml:4:3: error: listeners `a` and `b` both bind 127.0.0.1:80 (the other at p.yaml:3:3)"}},
    {"EndpointTwice",
     "version: 1\nupstreams: { a: { endpoints: [\"1.2.3.4:80\", { address: \"1.2.3.4:80\" }] } }\n",
     {"p.yaml:2:45: error: upstream `a` names 1.2.3.4:80 twice (use `weight` for a larger share)"}},
    {"NoEndpoints",
     "version: 1\nupstreams: { a: { endpoints: [] } }\n",
     {"p.yaml:2:30: error: upstreams.a.endpoints is an empty list (such as "
      "[\"192.0.2.10:8080\"])"}},
    {"ReservedName",
     "version: 1\nupstreams: { original_destination: { endpoints: [\"1.2.3.4:80\"] } }\n",
     {"p.yaml:2:14: error: the name `original_destination` is taken (it stands for where the "
      "client wanted to go; "
      "choose another name)"}},
    {"HealthCheckOfNothing",
     "version: 1\nupstreams: { a: { endpoints: original_destination, health_check: {} } }\n",
     {"p.yaml:2:14: error: upstream `a` has no endpoints to check (remove health_check)"}},
    {"BurstOfAYear",
     "version: 1\nlimits: { a: { rate: 1/h, burst: 10000 } }\n",
     {"p.yaml:2:11: error: limit `a`: a burst of 10000 takes more than a year to come back at this "
      "rate (lower the "
      "burst or raise the rate)"}},
    {"BanShorterThanItself",
     "version: 1\nlimits: { a: { rate: 1/s } }\nbans: { rules: [{ when: { limit: a }, for: 2h, "
     "up_to: 60m }] }\n",
     {"p.yaml:3:17: error: `up_to` (1h) is shorter than `for` (2h) (`up_to` is the longest ban)"}},
};

const Wrong kKernel[] = {
    {"MaskWithHole",
     "version: 1\nintercept:\n  marks: { mask: 0x500000 }\n",
     {"p.yaml:3:3: error: intercept.marks: `mask` needs at least two adjoining bits and no others "
      "(such as "
      "0x300000)"}},
    {"MaskOfOneBit",
     "version: 1\nintercept:\n  marks: { mask: 0x100000 }\n",
     {"p.yaml:3:3: error: intercept.marks: `mask` needs at least two adjoining bits and no others "
      "(such as "
      "0x300000)"}},
    {"MarkNotLowest",
     "version: 1\nintercept:\n  marks: { mark: 0x200000 }\n",
     {"p.yaml:3:3: error: intercept.marks: `mark` is not the lowest bit of `mask` (did you mean "
      "`mark: "
      "0x100000`?)"}},
    {"SystemTable",
     "version: 1\nintercept:\n  marks: { table: 254 }\n",
     {"p.yaml:3:3: error: intercept.marks: routing table 254 is the system's own (any other "
      "number, such as "
      "5177)"}},
    {"SteeringTcBesideAnother",
     "version: 1\nlisteners: { a: {} }\nintercept:\n  forward:\n"
     "    - { from: [10.0.0.0/8], ports: [80], steering: tc }\n"
     "    - { from: [10.0.0.0/8], ports: [443], steering: tproxy }\n",
     {"p.yaml:6:7: error: intercept.forward: steering tc is for all entries or for none of them "
      "(the one that says tc is at p.yaml:5:7)"}},
    {"SteeringTcCannotReset",
     "version: 1\nlisteners: { a: {} }\nintercept:\n  forward:\n"
     "    - { ports: [80], steering: tc, on_change: reset }\n",
     {"p.yaml:5:7: error: intercept.forward: steering tc cannot reset open connections (use "
      "`on_change: drain` or `keep`)"}},
    {"SteeringTcBeforeTheGuard",
     "version: 1\nlisteners: { a: {} }\nintercept:\n  forward:\n"
     "    - { ports: [80], steering: tc }\nguard: { position: last }\n",
     {"p.yaml:6:1: error: guard.position: last would hide from the guard what steering tc takes "
      "(use `position: first`; the entry is at p.yaml:5:7)"}},
    {"Ambiguous",
     "version: 1\nlisteners: { a: {}, b: {} }\nintercept:\n  forward:\n"
     "    - { from: [10.0.0.0/8], ports: [400-500], listener: a }\n"
     "    - { from: [10.1.0.0/16], ports: [443], listener: b }\n",
     {"p.yaml:6:7: error: intercept.forward: the entry at p.yaml:5:7 claims some of the same "
      "traffic for listener "
      "`a`, this one for `b` (make from, to or ports disjoint)"}},
    {"AmbiguousCgroups",
     "version: 1\nlisteners: { a: {}, b: {} }\nintercept:\n  output:\n"
     "    - { cgroups: [/system.slice], ports: [443], listener: a }\n"
     "    - { cgroups: [/system.slice/x.service], ports: [443], listener: b }\n",
     {"p.yaml:6:7: error: intercept.output: the entry at p.yaml:5:7 claims some of the same "
      "traffic for listener "
      "`a`, this one for `b` (make from, to or ports disjoint)"}},
    {"SameLocal",
     "version: 1\nlisteners: { a: {}, b: {} }\nintercept:\n  local:\n"
     "    - { to: [10.0.0.0/8], ports: [80], listener: a }\n    - { to: [10.0.0.0/8], ports: [80], "
     "listener: b }\n",
     {"p.yaml:6:7: error: intercept.local: 10.0.0.0/8 goes to listener `a` already (the other "
      "entry is at "
      "p.yaml:5:7)"}},
    {"HostPort",
     "version: 1\nlisteners: { a: {} }\nintercept: { local: [{ to: [10.0.0.0/8], ports: [20-30] }] "
     "}\n",
     {"p.yaml:3:22: error: intercept.local would take port 22, which protect.host_ports keeps for "
      "the host (leave "
      "it out of `ports`, or say `take_over: true`)"}},
    {"MixedVersions",
     "version: 1\nlisteners: { a: {} }\nintercept: { forward: [{ from: [10.0.0.0/8], to: "
     "[\"::/0\"], ports: [80] }] "
     "}\n",
     {"p.yaml:3:24: error: intercept.forward never matches: `from` and `to` have no IP version in "
      "common"}},
    {"NobodyIsNamed",
     "version: 1\nai: { providers: { a: { base_url: \"http://192.0.2.9\" } }, identities: [{ key: "
     "k "
     "}] }\n",
     {"p.yaml:2:72: error: ai.identities: nobody is named (`from` or `cgroups`)"}},
    {"ACgroupThatNothingLeadsHere",
     "version: 1\nlisteners: { a: {} }\n"
     "intercept: { output: [{ ports: [443], listener: a }] }\n"
     "ai: { providers: { a: { base_url: \"http://192.0.2.9\" } },\n"
     "      identities: [{ cgroups: [/app], key: k }] }\n",
     {"p.yaml:5:20: error: ai.identities: nothing leads connections of `/app` here (such as "
      "`intercept: { output: [{ cgroups: [/app], ports: [443], listener: NAME }] }`)"}},
    {"ACgroupThatComesWithOthers",
     "version: 1\nlisteners: { a: {} }\n"
     "intercept: { output: [{ cgroups: [/app], ports: [443], listener: a }, { to: [192.0.2.1], "
     "ports: [80], listener: a }] }\n"
     "ai: { providers: { a: { base_url: \"http://192.0.2.9\" } },\n"
     "      identities: [{ cgroups: [/app], key: k }] }\n",
     {"p.yaml:5:20: error: ai.identities: listener `a` gets connections of others as well, by the "
      "entry at p.yaml:3:71 (a listener of its own for each identity)"}},
    {"GuardDropsAll",
     "version: 1\nguard: { rules: [{ name: all, action: drop }] }\n",
     {"p.yaml:2:18: error: guard rule `all` would drop every packet (name from, to, ports or a "
      "protocol; `action: "
      "count` to watch)"}},
    {"GuardSameName",
     "version: 1\nguard: { rules: [{ name: x, to_ports: [1] }, { name: x, to_ports: [2] }] }\n",
     {"p.yaml:2:46: error: two guard rules are named `x` (the other at p.yaml:2:18)"}},
    {"GuardMixedVersions",
     "version: 1\nguard: { rules: [{ name: x, from: [10.0.0.0/8], to: [\"::1\"] }] }\n",
     {"p.yaml:2:18: error: guard rule `x` never matches: `from` and `to` have no IP version in "
      "common"}},
    {"GuardIcmpPorts",
     "version: 1\nguard: { rules: [{ name: x, protocol: icmp, to_ports: [1] }] }\n",
     {"p.yaml:2:18: error: guard rule `x` never matches: its protocol has no ports (remove the "
      "ports, or use tcp, "
      "udp or sctp)"}},
    {"GuardIcmpV6",
     "version: 1\nguard: { rules: [{ name: x, protocol: icmp, from: [\"::1\"] }] }\n",
     {"p.yaml:2:18: error: guard rule `x` never matches: the protocol belongs to the other IP "
      "version (icmpv6 goes "
      "with IPv6)"}},
    {"GuardLimitWithoutRate",
     "version: 1\nguard: { rules: [{ name: x, action: limit, burst: 5 }] }\n",
     {"p.yaml:2:18: error: guard rule `x` limits without a rate (add `rate: 1000/s`)"}},
    {"GuardRateOfADrop",
     "version: 1\nguard: { rules: [{ name: x, to_ports: [1], rate: 5/s }] }\n",
     {"p.yaml:2:18: error: guard rule `x` has a rate that does nothing (add `action: limit`, or "
      "remove the rate)"}},
    {"GuardBurstOfYears",
     "version: 1\nguard: { rules: [{ name: x, action: limit, rate: 1/d, burst: 213504 }] }\n",
     {"p.yaml:2:18: error: guard rule `x`: a burst of 213504 takes more than a year to come back "
      "at this rate (lower the burst or raise the rate)"}},
    {"GuardSourceBurstOfYears",
     "version: 1\nguard: { per_source: { syn: 1/h, burst: 10000 } }\n",
     {"p.yaml:2:1: error: guard.per_source: a burst of 10000 takes more than a year to come back "
      "at this rate (lower the burst or raise the rate)"}},
    {"GuardXdpSeesNoEgress",
     "version: 1\nguard: { attach: xdp, rules: [{ name: x, to_ports: [1], direction: both }] }\n",
     {"p.yaml:2:31: error: guard rule `x` looks at packets that go out, and XDP sees none (use "
      "`attach: tc`, or `direction: ingress`)"}},
    {"GuardXdpHasNoPosition",
     "version: 1\nguard: { attach: xdp-generic, position: last }\n",
     {"p.yaml:2:1: error: guard: position has no meaning with XDP (XDP comes before every TC "
      "program; use `attach: tc` to stand behind them)"}},
    {"GuardEmptyListIsNotAny",
     "version: 1\nguard: { rules: [{ name: x, from: [], to_ports: [23] }] }\n",
     {"p.yaml:2:35: error: guard.rules[0].from is an empty list (leave it out to mean any)"}},
    {"AddressesWithoutAValue",
     "version: 1\nguard: { rules: [{ name: x, from: , to_ports: [23] }] }\n",
     {"p.yaml:2:29: error: guard.rules[0].from has no value (leave it out to mean any)"}},
    {"CaughtFromNothingIsNotFromAny",
     "version: 1\nlisteners: { a: { protocol: tcp } }\nintercept:\n  forward:\n"
     "    - { from: , to: [0.0.0.0/0], ports: [80], listener: a }\n",
     {"p.yaml:5:9: error: intercept.forward[0].from has no value (leave it out to mean any)"}},
    {"CaughtPortsWithoutAValue",
     "version: 1\nlisteners: { a: { protocol: tcp } }\nintercept:\n  forward:\n"
     "    - { to: [0.0.0.0/0], ports: , listener: a }\n",
     {"p.yaml:5:26: error: intercept.forward[0].ports has no value (such as [443])"}},
    {"AnElementThatNamesNobody",
     "version: 1\nguard: { rules: [{ name: x, from: [{}], to_ports: [23] }] }\n",
     {"p.yaml:2:36: error: guard.rules[0].from[0] is empty (`cidr`, `set` or `pods`)"}},
    {"ALoneElementThatNamesNobody",
     "version: 1\nguard: { rules: [{ name: x, from: {}, to_ports: [23] }] }\n",
     {"p.yaml:2:35: error: guard.rules[0].from is empty (`cidr`, `set` or `pods`)"}},
    {"ASetThatThereIsNot",
     "version: 1\nsets: { blocklist: {} }\nguard: { rules: [{ name: x, from: { set: blocklst } }] "
     "}\n",
     {"p.yaml:3:42: error: guard.rules[0].from.set: there is no set `blocklst` (did you mean "
      "`blocklist`?)"}},
    {"ASetOfEverybody",
     "version: 1\nsets: { all: { elements: [10.0.0.0/8, 0.0.0.0/0] } }\n",
     {"p.yaml:2:9: error: sets.all: 0.0.0.0/0 is every address (leave `from` or `to` out of the "
      "rule "
      "to mean any)"}},
};

std::string name_of(const testing::TestParamInfo<Wrong>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Syntax, Errors, testing::ValuesIn(kSyntax), name_of);
INSTANTIATE_TEST_SUITE_P(Schema, Errors, testing::ValuesIn(kSchema), name_of);
INSTANTIATE_TEST_SUITE_P(References, Errors, testing::ValuesIn(kReferences), name_of);
INSTANTIATE_TEST_SUITE_P(Routes, Errors, testing::ValuesIn(kRoutes), name_of);
INSTANTIATE_TEST_SUITE_P(Other, Errors, testing::ValuesIn(kOther), name_of);
INSTANTIATE_TEST_SUITE_P(Kernel, Errors, testing::ValuesIn(kKernel), name_of);

TEST(Warnings, AProtectedSourceInADropRuleIsOnlyAWarning) {
  const ParseResult result = parse_text(
      "version: 1\nprotect: { from: [{ cidr: 10.9.0.0/24 }] }\n"
      "guard: { rules: [{ name: x, from: [10.0.0.0/8] }] }\n");
  EXPECT_TRUE(result.config.has_value());
  EXPECT_THAT(shown(result.diagnostics),
              ElementsAre("p.yaml:3:18: warning: guard rule `x` names 10.9.0.0/24, which is "
                          "protected: protect wins (protected at p.yaml:2:19)"));
}

TEST(Warnings, TakeOverAllowsAHostPort) {
  const ParseResult result = parse_text(
      "version: 1\nlisteners: { a: {} }\n"
      "intercept: { local: [{ to: [10.0.0.0/8], ports: [22], take_over: true }] }\n");
  EXPECT_THAT(shown(result.diagnostics), IsEmpty());
}

TEST(Files, MergeAndKeepTheirNames) {
  const PolicyFile files[] = {
      {"a.yaml",
       "version: 1\nlisteners: { web: {} }\nupstreams: { x: { endpoints: [\"1.2.3.4:80\"] } }\n"
       "routes: [{ upstream: x }]\nprotect: { host_ports: [22] }\n"},
      {"b.yaml",
       "version: 1\nupstreams: { y: { endpoints: [\"1.2.3.5:80\"] } }\n"
       "routes: [{ path: /y, upstream: y }]\nprotect: { host_ports: [6443] }\n"},
      {"empty.yaml", ""}};
  const ParseResult result = parse(files);
  EXPECT_THAT(shown(result.diagnostics), IsEmpty());
  ASSERT_TRUE(result.config);
  EXPECT_EQ(result.config->upstreams.size(), 2u);
  EXPECT_EQ(result.config->routes.size(), 2u);
  EXPECT_THAT(result.config->protect.host_ports, ElementsAre(22, 6443));
  EXPECT_EQ(result.config->routes[1].where.to_string(), "b.yaml:3:10");
}

TEST(Files, AByteOrderMarkIsNoPartOfTheText) {
  const std::string mark = "\xef\xbb\xbf";
  EXPECT_THAT(shown(parse_text(mark + "version: 1\nworkers: 2\n").diagnostics), IsEmpty());
  for (const char* wrong : {"versoin: 1\n", "version: 2\n", "version: 1\nworkers: \xff\n",
                            "version: [\n", "version: 1\n\tworkers: 1\n"}) {
    const auto plain = shown(parse_text(wrong).diagnostics);
    EXPECT_THAT(plain, testing::Not(IsEmpty())) << wrong;
    EXPECT_EQ(shown(parse_text(mark + wrong).diagnostics), plain) << wrong;
  }
}

TEST(Files, TheSameKeyInTwoIsAnError) {
  const PolicyFile files[] = {{"a.yaml", "version: 1\nworkers: 2\nlisteners: { web: {} }\n"},
                              {"b.yaml", "workers: 2\nlisteners: { web: {} }\n"}};
  EXPECT_THAT(
      shown(parse(files).diagnostics),
      ElementsAre("b.yaml:1:1: error: `workers` is set twice in the policy (first at a.yaml:2:1)",
                  "b.yaml:2:14: error: `web` is set twice in listeners (first at a.yaml:3:14)"));
}

TEST(Files, NoneIsAnError) {
  EXPECT_THAT(
      shown(parse({}).diagnostics),
      ElementsAre("default: error: the policy is empty (a directory needs at least one file)"));
}

TEST(Hostile, TooLarge) {
  EXPECT_THAT(shown(parse_text(std::string(kMaxPolicyBytes + 1, '#')).diagnostics),
              ElementsAre("p.yaml: error: the policy is too large (at most 8 MiB in all files)"));
}

TEST(Hostile, TooDeepTooManyAndGarbageAreRefused) {
  std::string blocks;
  for (int i = 0; i < 200; ++i)
    blocks += std::string(static_cast<std::size_t>(i), ' ') + "- \n";
  const std::string texts[] = {std::string(3'000'000, '['),
                               std::string(100'000, '['),
                               std::string(100'000, '{'),
                               "a:\n" + blocks,
                               std::string(100'000, '?'),
                               std::string(100'000, ':'),
                               std::string(100'000, '\0'),
                               std::string(100'000, '\xff'),
                               std::string(100'000, '\t'),
                               std::string(100'000, '!'),
                               std::string(100'000, '&'),
                               std::string(100'000, '*'),
                               std::string(100'000, '"'),
                               std::string(100'000, '%'),
                               "\xef\xbb\xbf",
                               "\xff\xfe\0\0",
                               "- - - -",
                               "<<: {}"};
  for (const std::string& text : texts) {
    const ParseResult result = parse_text(text);
    EXPECT_TRUE(has_errors(result.diagnostics)) << text.substr(0, 8);
    EXPECT_FALSE(result.config);
  }
}

TEST(Hostile, ErrorsAreBounded) {
  std::string text = "version: 1\n";
  for (int i = 0; i < 10'000; ++i)
    text += "k" + std::to_string(i) + ": 1\n";
  const ParseResult result = parse_text(text);
  EXPECT_LE(result.diagnostics.size(), 201u);
  EXPECT_FALSE(result.config);
}

}  // namespace
}  // namespace sluice::policy
