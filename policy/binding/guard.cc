// From the tree to `guard`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

void guard_match(const Node& node, const Reporter& reporter, GuardMatch& out) {
  addresses(node, "from", reporter, out.from);
  addresses(node, "to", reporter, out.to);
  optional(node, "from_ports", out.from_ports);
  optional(node, "to_ports", out.to_ports);
}

// `key`: of the rate; a burst is as much as comes in a second.
void packet_rate(const Node& node, std::string_view key, std::optional<PacketRate>& out) {
  const Node* rate = node.find(key);
  const auto parsed = rate ? parse_rate(rate->text) : std::nullopt;
  if (!parsed) return;
  PacketRate& made = out.emplace();
  made.count = parsed->count;
  made.period = parsed->period;
  const auto seconds = static_cast<std::uint64_t>(parsed->period / 1s);
  made.burst = std::max<std::uint64_t>(parsed->count / std::max<std::uint64_t>(seconds, 1), 1);
  optional(node, "burst", made.burst);
}

void guard_rule(const Node& node, const Reporter& reporter, GuardRule& rule) {
  rule.where = reporter.locate(node.where());
  optional(node, "name", rule.name);
  guard_match(node, reporter, rule.match);
  if (const Node* except = node.find("except")) guard_match(*except, reporter, rule.except);
  if (const Node* protocol = node.find("protocol")) {
    rule.protocol = parse_ip_protocol(protocol->text);
  }
  optional_word(node, "action", kGuardActionWords, rule.action);
  packet_rate(node, "rate", rule.rate);
  if (!rule.rate && node.find("burst")) rule.rate.emplace();  // validate says what is missing
  optional_word(node, "direction", kGuardDirectionWords, rule.direction);
  if (const Node* interfaces = node.find("interfaces"))
    read(*interfaces, rule.interfaces.emplace());
  optional_word(node, "mode", kGuardModeWords, rule.mode);
}

}  // namespace

void guard(const Node& node, const Reporter& reporter, GuardConfig& out) {
  optional(node, "interfaces", out.interfaces);
  optional_word(node, "attach", kGuardAttachWords, out.attach);
  if (const Node* position = node.find("position")) out.first = position->text != "last";
  optional_word(node, "mode", kGuardModeWords, out.mode);
  if (const Node* source = node.find("per_source")) packet_rate(*source, "syn", out.source_syn);
  if (const Node* service = node.find("per_service")) packet_rate(*service, "syn", out.service_syn);
  each(node, "monitor", [&](const Node& element) {
    read_word(element, kGuardMonitorWords, out.monitor.emplace_back());
  });
  out.where = reporter.locate(node.where());
  each(node, "rules",
       [&](const Node& element) { guard_rule(element, reporter, out.rules.emplace_back()); });
}

}  // namespace sluice::policy::binding
