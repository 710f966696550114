// From the tree to `limits and bans`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

void key_part(const Node& node, LimitKeyPart& out) {
  const Node* part = node.kind == Node::Kind::scalar ? &node : node.find("part");
  if (part) read_word(*part, kLimitKeyWords, out.kind);
  if (const Node* header = node.find("header")) {
    out.kind = LimitKey::header;
    out.name = lower(header->text);
  }
  if (const Node* claim = node.find("claim")) {
    out.kind = LimitKey::claim;
    out.name = claim->text;
  }
}

void ban_cause(const Node& when, BanRule& out) {
  optional(when, "limit", out.limit);
  if (const Node* event = when.find("event")) {
    read_word(*event, kBanEventWords, out.event.emplace());
  }
  optional(when, "route", out.route);
  optional(when, "count", out.count);
  optional(when, "within", out.within);
}

}  // namespace

void limit(const Node& node, const Reporter& reporter, Limit& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  if (const Node* given = node.find("rate")) {
    const Rate rate = parse_rate(given->text).value_or(Rate{1, 1s});  // what is no rate is told
    out.rate_count = rate.count;
    out.rate_period = rate.period;
  }
  out.burst = out.rate_count;
  optional(node, "burst", out.burst);
  optional(node, "max", out.max);
  optional(node, "max_delay", out.max_delay);
  optional(node, "ipv4_prefix", out.ipv4_prefix);
  optional(node, "ipv6_prefix", out.ipv6_prefix);
  optional(node, "max_keys", out.max_keys);
  addresses(node, "from", reporter, out.from);
  optional_word(node, "unit", kLimitUnitWords, out.unit);
  optional_word(node, "action", kLimitActionWords, out.action);
  optional_word(node, "scope", kLimitScopeWords, out.scope);
  if (const Node* key = node.find("key"); key && key->kind == Node::Kind::list) {
    out.key.clear();
    for (const Node& element : key->children) {
      key_part(element, out.key.emplace_back());
    }
  }
}

void bans(const Node& node, const Reporter& reporter, BansConfig& out) {
  optional(node, "max", out.max);
  if (const Node* rate = node.find("rate")) {
    if (const auto parsed = parse_rate(rate->text)) {
      out.rate_count = parsed->count;
      out.rate_period = parsed->period;
    }
  }
  each(node, "rules", [&](const Node& element) {
    BanRule& rule = out.rules.emplace_back();
    rule.where = reporter.locate(element.where());
    if (const Node* when = element.find("when")) ban_cause(*when, rule);
    optional(element, "for", rule.duration);
    optional(element, "grow", rule.grow);
    optional(element, "up_to", rule.up_to);
    optional(element, "ipv6_prefix", rule.ipv6_prefix);
    optional_word(element, "action", kBanActionWords, rule.action);
    optional(element, "upstream", rule.upstream);
    optional_word(element, "mode", kBanModeWords, rule.mode);
  });
}

}  // namespace sluice::policy::binding
