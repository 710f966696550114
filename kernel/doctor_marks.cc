// Others who route by marks, and what stands in our table.
#include <cstdio>

#include "kernel/doctor_read.h"
#include "kernel/message.h"
#include "kernel/policy_routing.h"

namespace sluice::kernel {
namespace {

using Level = Finding::Level;

constexpr const char* kCheck = "marks";

std::string hex(std::uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%x", value);
  return text;
}

Finding finding(const RuleClash& clash, const Marks& marks, Level level) {
  switch (clash.over) {
    case RuleClash::Over::marks:
      return {kCheck, level,
              message("another tool routes by bits of intercept.marks ({}/{}): {}", hex(marks.mark),
                      hex(marks.mask), clash.text),
              "give Sluice two free bits: intercept.marks: { mask: …, mark: … }"};
    case RuleClash::Over::table:
      return {kCheck, level,
              message("another tool uses Sluice's routing table {}: {}", marks.table, clash.text),
              "give Sluice another: intercept.marks: { table: …, priority: … }"};
    case RuleClash::Over::priority:
      break;
  }
  return {kCheck, level,
          message("another tool's rule has a priority of Sluice's ({} and {}): {}", marks.priority,
                  marks.priority + 1, clash.text),
          "give Sluice another, the first of two that are free: intercept.marks: { priority: … }"};
}

}  // namespace

// Whatever this names, a keeper refuses the policy for.
std::vector<Finding> examine_marks(const DoctorOptions& options) {
  const Marks& marks = options.plan.marks;
  const auto clashes = rule_clashes(marks);
  if (!clashes) return {{kCheck, Level::problem, clashes.error().message, "see capabilities"}};
  const Level level = uses_marks(options.plan) ? Level::problem : Level::warning;
  std::vector<Finding> findings;
  for (const RuleClash& clash : *clashes)
    findings.push_back(finding(clash, marks, level));
  if (findings.empty())
    findings.push_back(
        {kCheck, Level::good,
         message("no other rule looks at {}, table {} is Sluice's", hex(marks.mask), marks.table),
         ""});
  return findings;
}

}  // namespace sluice::kernel
