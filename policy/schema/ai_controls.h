// The fields of `ai` that say who may spend how much, and what is kept of it.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy {

inline constexpr std::array<std::string_view, 4> kAiPeriodWords{"hour", "day", "week", "month"};
inline constexpr std::array<std::string_view, 6> kAiEachWords{"all",   "key",   "team",
                                                              "owner", "model", "route"};
inline constexpr std::array<std::string_view, 2> kAiUnpricedWords{"deny", "pass"};
// gateway/ai/filter/detectors.cc knows what each looks like.
inline constexpr std::array<std::string_view, 10> kAiFindWords{
    "secrets",     "personal", "api_key",     "aws_key", "jwt",
    "private_key", "email",    "credit_card", "iban",    "us_ssn"};
inline constexpr std::array<std::string_view, 2> kAiFilterActionWords{"redact", "refuse"};
inline constexpr std::array<std::string_view, 3> kAiDirectionWords{"both", "request", "answer"};

}  // namespace sluice::policy

namespace sluice::policy::fields {

// What a scope is made of (AiScope); the sections that have one repeat them.
inline constexpr Field kAiScopeKeys{.name = "keys",
                                    .type = text,
                                    .shape = list,
                                    .example = "[alice, \"batch-*\"]",
                                    .doc = "Calls with these virtual keys alone, by name; a `*` at "
                                           "the end stands for anything."};
inline constexpr Field kAiScopeTeams{.name = "teams",
                                     .type = text,
                                     .shape = list,
                                     .example = "[search]",
                                     .doc = "Calls of these teams alone."};
inline constexpr Field kAiScopeModels{
    .name = "models",
    .type = text,
    .shape = list,
    .example = "[\"claude-opus-*\"]",
    .doc = "Calls for these models alone, as callers call them."};
inline constexpr Field kAiScopeRoutes{.name = "routes",
                                      .type = text,
                                      .shape = list,
                                      .example = "[\"llm-*\"]",
                                      .doc = "Calls on these routes alone, by name."};

inline constexpr Field kAiBudget[] = {
    {.name = "dollars",
     .type = number,
     .example = "500",
     .max = 1'000'000'000,
     .required = true,
     .doc = "What calls may cost in a period, in US dollars by the file of `prices`. A call is "
            "refused when what it may cost is more than what is left."},
    {.name = "per",
     .type = word,
     .fallback = "month",
     .example = "day",
     .words = kAiPeriodWords,
     .doc = "Of the calendar, UTC; a week begins on Monday."},
    {.name = "each",
     .type = word,
     .fallback = "all",
     .example = "key",
     .words = kAiEachWords,
     .doc = "Who or what has such a budget of its own; all: one for all of them together."},
    kAiScopeKeys,
    kAiScopeTeams,
    kAiScopeModels,
    kAiScopeRoutes,
};
inline constexpr Field kAiUsage[] = {
    {.name = "file",
     .type = text,
     .example = "/var/lib/sluice/team-usage.db",
     .doc = "SQLite's, written by the gateway, so its user must be able to write there. Left out: "
            "gateway/usage.db in state_dir."},
    {.name = "keep",
     .type = duration,
     .fallback = "9600h",
     .example = "2160h",
     .min = kDay,
     .max = 3650 * kDay,
     .doc = "Older days go. 9600h are 400 days."},
};
inline constexpr Field kAiCache[] = {
    {.name = "ttl",
     .type = duration,
     .fallback = "10m",
     .example = "1h",
     .min = kSecond,
     .max = 30 * kDay,
     .doc = "How long an answer is good for."},
    {.name = "max_memory",
     .type = size,
     .fallback = "64MiB",
     .example = "256MiB",
     .min = 1 << 20,
     .max = 64LL << 30,
     .doc = "What was not asked for longest goes first; one answer takes at most an eighth, and 4 "
            "MiB."},
    kAiScopeKeys,
    kAiScopeTeams,
    kAiScopeModels,
    kAiScopeRoutes,
};
inline constexpr Field kAiFilter[] = {
    {.name = "find",
     .type = word,
     .shape = list,
     .example = "[secrets, email]",
     .words = kAiFindWords,
     .doc = "What is known already. secrets: api_key, aws_key, jwt, private_key. personal: email, "
            "credit_card (with a right check digit), iban (the same), us_ssn."},
    {.name = "pattern",
     .type = regex,
     .example = "\"(?i)project nightfall\"",
     .doc = "What else, in RE2's syntax, anywhere in a text."},
    {.name = "action",
     .type = word,
     .fallback = "redact",
     .example = "refuse",
     .words = kAiFilterActionWords,
     .doc = "redact: `[email]` or `[NAME]` stands in its place. refuse: the request is a 400 that "
            "names the filter; an answer is a 403, or breaks off."},
    {.name = "in",
     .type = word,
     .fallback = "both",
     .example = "request",
     .words = kAiDirectionWords,
     .doc = "In which direction."},
    kAiScopeKeys,
    kAiScopeTeams,
    kAiScopeModels,
    kAiScopeRoutes,
};
inline constexpr Field kAiAudit[] = {
    {.name = "path",
     .type = text,
     .example = "/var/log/sluice/ai.jsonl",
     .required = true,
     .doc = "A file to append to, by the gateway; `stdout` or `stderr`. One that was moved away is "
            "made anew within a second, and before the next line."},
    {.name = "max_body",
     .type = size,
     .fallback = "64KiB",
     .example = "8KiB",
     .min = 0,
     .max = 8 << 20,
     .doc = "How much of a request, and of an answer, a line has."},
    {.name = "max_memory",
     .type = size,
     .fallback = "16MiB",
     .example = "64MiB",
     .min = 64 << 10,
     .max = 4LL << 30,
     .doc = "Of lines that wait to be written; more are dropped, and counted."},
    kAiScopeKeys,
    kAiScopeTeams,
    kAiScopeModels,
    kAiScopeRoutes,
};

}  // namespace sluice::policy::fields
