// From the tree to `ai`.
#include "policy/schema/ai.h"

#include <array>

#include "policy/auth_url.h"
#include "policy/binding/ai_sections.h"
#include "policy/binding/paths.h"
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/host.h"

namespace sluice::policy::binding {

namespace {

void path(const Node& node, std::string_view key, const Reporter& reporter, std::string& out) {
  if (const Node* child = node.find(key)) out = beside_policy(*child, reporter, child->text);
}

void provider(const Node& node, const Reporter& reporter, AiProvider& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  optional_word(node, "kind", kAiKindWords, out.kind);
  optional(node, "base_url", out.base_url);
  if (const Node* key = node.find("key")) out.keys.push_back(secret_beside_policy(*key, reporter));
  each(node, "keys",
       [&](const Node& key) { out.keys.push_back(secret_beside_policy(key, reporter)); });
  optional_word(node, "caller_key", kAiCallerKeyWords, out.caller_key);
  optional(node, "api_version", out.api_version);
  optional(node, "upstream", out.url.upstream);
  if (const Node* timeouts = node.find("timeouts")) {
    optional(*timeouts, "connect", out.timeouts.connect);
    optional(*timeouts, "first_token", out.timeouts.first_token);
    optional(*timeouts, "idle", out.timeouts.idle);
  }
}

// PROVIDER/MODEL; without a slash all of it is the provider, which check_ai() knows or not.
AiTarget fallback(const std::string& text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos) return {.provider = text, .model = {}};
  return {.provider = text.substr(0, slash), .model = text.substr(slash + 1)};
}

void model(const Node& node, const Reporter& reporter, AiModel& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  each(node, "targets", [&](const Node& element) {
    AiTarget& target = out.targets.emplace_back();
    optional(element, "provider", target.provider);
    optional(element, "model", target.model);
    optional(element, "weight", target.weight);
  });
  each(node, "fallback",
       [&](const Node& element) { out.fallback.push_back(fallback(element.text)); });
}

// What is no host stays as it is, which check_ai() reports.
void bypass(const Node& node, const Reporter& reporter, AiBypass& out) {
  out.where = reporter.locate(node.where());
  optional_word(node, "action", kAiBypassActionWords, out.action);
  each(node, "hosts", [&](const Node& host) {
    std::array<char, kMaxHostLength> memory;
    const auto normal = normalise_host(host.text, memory);
    out.hosts.emplace_back(normal ? *normal : std::string_view(host.text));
  });
}

}  // namespace

void ai(const Node& node, const Reporter& reporter, AiConfig& out) {
  out.where = reporter.locate(node.where());
  each(node, "providers",
       [&](const Node& entry) { provider(entry, reporter, out.providers.emplace_back()); });
  each(node, "models",
       [&](const Node& entry) { model(entry, reporter, out.models.emplace_back()); });
  optional_word(node, "keys", kAiKeysWords, out.keys);
  each(node, "identities", [&](const Node& element) {
    AiIdentity& identity = out.identities.emplace_back();
    identity.where = reporter.locate(element.where());
    addresses(element, "from", reporter, identity.from);
    optional(element, "cgroups", identity.cgroups);
    optional(element, "key", identity.key);
  });
  path(node, "key_file", reporter, out.key_file);
  path(node, "prices", reporter, out.prices);
  if (const Node* child = node.find("prices")) out.prices_where = reporter.locate(child->where());
  optional_word(node, "scope", kLimitScopeWords, out.scope);
  optional_word(node, "untranslatable", kAiUntranslatableWords, out.untranslatable);
  if (const Node* child = node.find("bypass")) bypass(*child, reporter, out.bypass.emplace());
  ai_controls(node, reporter, out);
}

}  // namespace sluice::policy::binding
