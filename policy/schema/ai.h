// The fields of `ai`.
#pragma once

#include "policy/schema/ai_controls.h"
#include "policy/schema/common.h"

namespace sluice::policy {

inline constexpr std::array<std::string_view, 6> kAiKindWords{"openai", "azure",   "anthropic",
                                                              "gemini", "mistral", "compatible"};
inline constexpr std::array<std::string_view, 2> kAiUntranslatableWords{"refuse", "drop"};
inline constexpr std::array<std::string_view, 2> kAiKeysWords{"required", "none"};
inline constexpr std::array<std::string_view, 2> kAiCallerKeyWords{"replace", "pass"};
inline constexpr std::array<std::string_view, 2> kAiBypassActionWords{"count", "reject"};

}  // namespace sluice::policy

namespace sluice::policy::fields {

inline constexpr Field kAiTimeouts[] = {
    {.name = "connect",
     .type = duration,
     .fallback = "5s",
     .example = "2s",
     .min = 10 * kMs,
     .max = kMinute,
     .doc = "Until a connection stands, TLS included."},
    {.name = "first_token",
     .type = duration,
     .fallback = "5m",
     .example = "30s",
     .min = 10 * kMs,
     .max = kHour,
     .doc = "From the request's end to what the caller gets first: of a stream its first event, "
            "else the head of the answer. Then the next target is tried."},
    {.name = "idle",
     .type = duration,
     .fallback = "60s",
     .example = "20s",
     .min = 10 * kMs,
     .max = kHour,
     .doc = "Between two pieces of an answer; a stream that stalls for longer is ended, and says "
            "so."},
};
inline constexpr Field kAiProvider[] = {
    {.name = "kind",
     .type = word,
     .fallback = "openai",
     .example = "anthropic",
     .words = kAiKindWords,
     .doc = "What it speaks. compatible: OpenAI's shape, as Ollama, vLLM, llama.cpp and many "
            "services speak it; so does openai with another base_url."},
    {.name = "base_url",
     .type = text,
     .example = "\"http://127.0.0.1:11434\"",
     .doc = "Left out: the vendor's own; azure and compatible need one. Where it has no path, the "
            "usual one is added (/v1, of azure /openai/v1)."},
    {.name = "upstream",
     .type = name,
     .example = "api",
     .refers = "upstreams",
     .doc = "Through which base_url is asked, for authorities, resolvers, timeouts and retries of "
            "your own; left out: its host, with TLS where it is https."},
    {.name = "key",
     .type = text,
     .example = "\"file:/run/secrets/openai\"",
     .excludes = "keys",
     .doc = "Its API key: `file:` and a path, or `${NAME}` from the environment; read by the "
            "keeper, files again when they change. Left out: none is sent."},
    {.name = "keys",
     .type = text,
     .shape = list,
     .example = "[\"${GEMINI_1}\", \"${GEMINI_2}\"]",
     .doc = "Several, used in turn. One that is refused or has used up its rate rests by itself."},
    {.name = "caller_key",
     .type = word,
     .fallback = "replace",
     .example = "pass",
     .words = kAiCallerKeyWords,
     .doc = "pass: of callers that called this provider's own host and were caught "
            "(`certificate_authority`), the vendor's key that they show goes on to it in place of "
            "`key`, as long as the call keeps its shape; to no other provider, and never a virtual "
            "key."},
    {.name = "api_version",
     .type = text,
     .example = "\"2024-10-21\"",
     .doc = "Of azure: asks by deployment under this version, instead of the newer /openai/v1."},
    {.name = "timeouts",
     .example = "{ first_token: 30s }",
     .children = kAiTimeouts,
     .doc = "How long each step may take."},
};
inline constexpr Field kAiIdentity[] = {
    {.name = "from",
     .shape = list,
     .example = "[{ pods: { namespace: shop, labels: { app: agent } } }]",
     .children = kAddresses,
     .shorthand = "cidr",
     .choice = true,
     .excludes = "cgroups",
     .doc = "Who: prefixes, sets, and Pods of this node by their labels."},
    {.name = "cgroups",
     .type = cgroup,
     .shape = list,
     .example = "[/system.slice/app.service]",
     .excludes = "from",
     .doc =
         "Or this node's processes in these cgroups, as the kernel knows them: `intercept.output` "
         "leads their connections, and nobody else's, to a listener."},
    {.name = "key",
     .type = name,
     .example = "team-a",
     .required = true,
     .doc = "The virtual key, by its name, whose models, limits and budget are theirs."},
};
inline constexpr Field kAiBypass[] = {
    {.name = "action",
     .type = word,
     .fallback = "count",
     .example = "reject",
     .words = kAiBypassActionWords,
     .doc = "count: what goes there is counted. reject: and new connections to ports 80 and 443 "
            "(TCP, and UDP for QUIC) are refused; what is open goes on."},
    {.name = "hosts",
     .type = text,
     .shape = list,
     .example = "[api.openai.com]",
     .doc = "Vendors' hosts beside those of `providers`."},
};
inline constexpr Field kAiTarget[] = {
    {.name = "provider",
     .type = name,
     .example = "llama",
     .required = true,
     .doc = "Of `providers`."},
    {.name = "model",
     .type = text,
     .example = "gpt-5-mini",
     .doc = "What it is called there; left out: as the caller calls it."},
    {.name = "weight",
     .type = integer,
     .fallback = "1",
     .example = "3",
     .min = 0,
     .max = 1'000'000,
     .doc = "Its share of the requests; the others are tried where it fails."},
};
inline constexpr Field kAiModel[] = {
    {.name = "targets",
     .shape = list,
     .example = "[{ provider: llama, model: llama3.2 }]",
     .children = kAiTarget,
     .required = true,
     .doc = "Who answers, by weight."},
    {.name = "fallback",
     .type = text,
     .shape = list,
     .example = "[llama/llama3.2]",
     .doc = "PROVIDER/MODEL, asked in this order when all targets have failed and the caller has "
            "not got a byte."},
};
inline constexpr Field kAi[] = {
    {.name = "providers",
     .shape = map,
     .example = "{ claude: { kind: anthropic, key: \"file:/run/secrets/anthropic\" } }",
     .children = kAiProvider,
     .required = true,
     .doc = "Vendors and servers, by name."},
    {.name = "models",
     .shape = map,
     .example = "{ \"claude-*\": { targets: [{ provider: llama }] } }",
     .children = kAiModel,
     .free_names = true,
     .doc = "What callers may ask for; the exact name, then the longest that ends with `*`. Left "
            "out: PROVIDER/MODEL, and any model where there is one provider."},
    {.name = "keys",
     .type = word,
     .fallback = "required",
     .example = "none",
     .words = kAiKeysWords,
     .doc = "required: callers show a virtual key (`sluice keys create`), where their SDK puts the "
            "vendor's. none: anybody may call, for a closed network."},
    {.name = "identities",
     .shape = list,
     .example = "[{ from: [{ pods: { labels: { app: agent } } }], key: team-a }]",
     .children = kAiIdentity,
     .doc = "Callers that show no key and are known by where they call from. The first entry that "
            "names the caller counts. A key that is shown, and known, comes first; one that is not "
            "known is passed over, since SDKs want to show something."},
    {.name = "key_file",
     .type = text,
     .example = "/var/lib/sluice/team-keys.json",
     .doc = "Where virtual keys are kept, as hashes; read again when it changes, so that several "
            "gateways may share it. Left out: keys.json in state_dir."},
    {.name = "prices",
     .type = text,
     .example = "prices.yaml",
     .doc =
         "A file of what models cost in US dollars for a million tokens, read again when it "
         "changes: `gpt-5: { input: 1.25, output: 10, cached_input: 0.125 }`; PROVIDER/MODEL "
         "where providers differ, `*` at the end for the rest. Left out: costs are not counted."},
    {.name = "budgets",
     .shape = map,
     .example = "{ search: { dollars: 500, teams: [search] } }",
     .children = kAiBudget,
     .doc =
         "Money, by any of key, team, model and route; a call needs room in each that is for it. "
         "Needs `prices`. Keys may have one of their own (`sluice keys create --budget`)."},
    {.name = "scope",
     .type = word,
     .fallback = "per_node",
     .example = "cluster",
     .words = kLimitScopeWords,
     .doc = "Who shares what is used of keys' limits and of budgets: this node's workers, or all "
            "gateways of cluster.redis, which is asked once for each call then."},
    {.name = "unpriced",
     .type = word,
     .fallback = "deny",
     .example = "pass",
     .words = kAiUnpricedWords,
     .doc = "Where a budget is for the call: a model without a price is not asked, or costs "
            "nothing."},
    {.name = "usage",
     .example = "{ keep: 2160h }",
     .children = kAiUsage,
     .doc = "What is kept of calls for `sluice usage`, and of budgets over a restart."},
    {.name = "cache",
     .example = "{ ttl: 1h }",
     .children = kAiCache,
     .doc = "Whole answers to the same request by the same key, kept in memory. Left out: none "
            "are."},
    {.name = "filters",
     .shape = map,
     .example = "{ private: { find: [secrets, personal] } }",
     .children = kAiFilter,
     .doc = "What of requests and answers is taken out, or refuses them; by name."},
    {.name = "audit",
     .example = "{ path: /var/log/sluice/ai.jsonl }",
     .children = kAiAudit,
     .doc = "A line of JSON for each call, with its request and answer, without secrets and "
            "personal data. Left out: none."},
    {.name = "bypass",
     .example = "{ action: reject, hosts: [api.openai.com] }",
     .children = kAiBypass,
     .doc =
         "Packets of this node, and those it forwards, to the addresses of providers' hosts that "
         "do not go through the gateway: sluice_ai_unmetered_bytes_total. What `protect` names "
         "is left alone. Left out: nobody looks."},
    {.name = "untranslatable",
     .type = word,
     .fallback = "refuse",
     .example = "drop",
     .words = kAiUntranslatableWords,
     .doc = "A field of a request that the target has no words for: 400 that names it, or left out "
            "and named in `x-sluice-dropped`."},
};

}  // namespace sluice::policy::fields
