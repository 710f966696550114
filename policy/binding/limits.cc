// From the tree to `limits and bans`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

void limit(const Node& node, const Reporter& reporter, Limit& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  if (const Node* rate = node.find("rate")) {
    if (const auto parsed = parse_rate(rate->text)) {
      out.rate_count = parsed->count;
      out.rate_period = parsed->period;
    }
  }
  out.burst = out.rate_count;
  optional(node, "burst", out.burst);
  optional(node, "ipv6_prefix", out.ipv6_prefix);
  if (const Node* key = node.find("key"); key && key->kind == Node::Kind::list) {
    out.key.clear();
    for (const Node& element : key->children) {
      read_word(element, kLimitKeyWords, out.key.emplace_back());
    }
  }
}

void bans(const Node& node, const Reporter& reporter, BansConfig& out) {
  optional(node, "max", out.max);
  each(node, "rules", [&](const Node& element) {
    BanRule& rule = out.rules.emplace_back();
    rule.where = reporter.locate(element.where());
    if (const Node* when = element.find("when")) {
      optional(*when, "limit", rule.limit);
      optional(*when, "count", rule.count);
      optional(*when, "within", rule.within);
    }
    optional(element, "for", rule.duration);
    optional(element, "grow", rule.grow);
    optional(element, "up_to", rule.up_to);
    optional_word(element, "mode", kBanModeWords, rule.mode);
  });
}

}  // namespace sluice::policy::binding
