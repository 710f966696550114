// From the tree to what of `ai` says who may spend how much, and what is kept of it.
#include <cmath>

#include "policy/binding/ai_sections.h"
#include "policy/binding/paths.h"
#include "policy/binding/read.h"
#include "policy/schema/ai_controls.h"

namespace sluice::policy::binding {

namespace {

constexpr double kMicros = 1e6;

void scope(const Node& node, AiScope& out) {
  optional(node, "keys", out.keys);
  optional(node, "teams", out.teams);
  optional(node, "models", out.models);
  optional(node, "routes", out.routes);
}

void budget(const Node& node, const Reporter& reporter, AiBudget& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  double dollars = 0;
  optional(node, "dollars", dollars);
  out.micros = std::llround(dollars * kMicros);
  optional_word(node, "per", kAiPeriodWords, out.period);
  optional_word(node, "each", kAiEachWords, out.each);
  scope(node, out.scope);
}

void usage(const Node& node, const Reporter& reporter, AiUsage& out) {
  if (const Node* file = node.find("file")) out.file = beside_policy(*file, reporter, file->text);
  optional(node, "keep", out.keep);
}

void cache(const Node& node, AiCache& out) {
  optional(node, "ttl", out.ttl);
  if (const Node* memory = node.find("max_memory")) read_size(*memory, out.max_memory);
  scope(node, out.scope);
}

void filter(const Node& node, const Reporter& reporter, AiFilter& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  each(node, "find",
       [&](const Node& word) { read_word(word, kAiFindWords, out.find.emplace_back()); });
  optional(node, "pattern", out.pattern);
  optional_word(node, "action", kAiFilterActionWords, out.action);
  optional_word(node, "in", kAiDirectionWords, out.direction);
  scope(node, out.scope);
}

void audit(const Node& node, const Reporter& reporter, AiAudit& out) {
  if (const Node* path = node.find("path")) {
    const bool stream = path->text == "stdout" || path->text == "stderr";
    out.path = stream ? path->text : beside_policy(*path, reporter, path->text);
  }
  if (const Node* body = node.find("max_body")) read_size(*body, out.max_body);
  if (const Node* memory = node.find("max_memory")) read_size(*memory, out.max_memory);
  scope(node, out.scope);
}

}  // namespace

void ai_controls(const Node& node, const Reporter& reporter, AiConfig& out) {
  each(node, "budgets",
       [&](const Node& entry) { budget(entry, reporter, out.budgets.emplace_back()); });
  optional_word(node, "unpriced", kAiUnpricedWords, out.unpriced);
  if (const Node* child = node.find("usage")) usage(*child, reporter, out.usage);
  if (const Node* child = node.find("cache")) cache(*child, out.cache.emplace());
  each(node, "filters",
       [&](const Node& entry) { filter(entry, reporter, out.filters.emplace_back()); });
  if (const Node* child = node.find("audit")) audit(*child, reporter, out.audit.emplace());
}

}  // namespace sluice::policy::binding
