// Others who route by marks, and what stands in our table.
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "kernel/doctor_read.h"
#include "kernel/message.h"
#include "kernel/netlink.h"

namespace sluice::kernel {
namespace {

using Level = Finding::Level;

constexpr std::uint8_t kUnset = 0;

struct Rule {
  bool v4 = true;
  std::uint32_t priority = 0;
  std::uint32_t mark = 0;
  std::uint32_t mask = 0;
  std::uint32_t table = 0;
  std::uint8_t protocol = kUnset;
};

template <typename Visit>
void each_attribute(const nlmsghdr& header, std::size_t fixed, Visit visit) {
  const auto* at = static_cast<const nlattr*>(mnl_nlmsg_get_payload_offset(&header, fixed));
  const auto* end = static_cast<const char*>(mnl_nlmsg_get_payload_tail(&header));
  for (; mnl_attr_ok(at, static_cast<int>(end - reinterpret_cast<const char*>(at)));
       at = mnl_attr_next(at))
    visit(*at);
}

Rule parse(const nlmsghdr& header) {
  const auto* fixed = static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(&header));
  Rule rule{.v4 = fixed->family == AF_INET, .table = fixed->table};
  each_attribute(header, sizeof(*fixed), [&](const nlattr& attribute) {
    switch (mnl_attr_get_type(&attribute)) {
      case FRA_PRIORITY:
        rule.priority = mnl_attr_get_u32(&attribute);
        break;
      case FRA_FWMARK:
        rule.mark = mnl_attr_get_u32(&attribute);
        break;
      case FRA_FWMASK:
        rule.mask = mnl_attr_get_u32(&attribute);
        break;
      case FRA_TABLE:
        rule.table = mnl_attr_get_u32(&attribute);
        break;
      default:
        break;
    }
  });
  return rule;
}

std::vector<Rule> read_rules() {
  std::vector<Rule> rules;
  NetlinkSocket socket(NETLINK_ROUTE);
  if (!socket.valid()) return rules;
  for (const int family : {AF_INET, AF_INET6}) {
    NetlinkMessage request(RTM_GETRULE, 0);
    request.extra<fib_rule_hdr>().family = static_cast<std::uint8_t>(family);
    socket.dump(request, [&](const nlmsghdr& header) {
      if (header.nlmsg_type == RTM_NEWRULE) rules.push_back(parse(header));
    });
  }
  return rules;
}

std::string hex(std::uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%x", value);
  return text;
}

std::string to_text(const Rule& rule) {
  return message("ip{} rule pref {} fwmark {}/{} lookup {}", rule.v4 ? "" : " -6", rule.priority,
                 hex(rule.mark), hex(rule.mask), rule.table);
}

// Sluice's own lead to its table, or are its exception for the loopback interface.
bool is_ours(const Rule& rule, const Marks& marks) {
  const bool mark = rule.mask == marks.mask && (rule.mark & ~marks.mask) == 0;
  return mark && (rule.table == marks.table || rule.table == RT_TABLE_MAIN);
}

}  // namespace

std::vector<Finding> examine_marks(const DoctorOptions& options) {
  const Marks& marks = options.plan.marks;
  const bool used = !options.plan.intercepts.empty();
  std::vector<Finding> findings;
  for (const Rule& rule : read_rules()) {
    if (is_ours(rule, marks)) continue;
    if ((rule.mask & marks.mask) != 0)
      findings.push_back({"marks", used ? Level::problem : Level::warning,
                          message("another tool routes by bits of intercept.marks ({}/{}): {}",
                                  hex(marks.mark), hex(marks.mask), to_text(rule)),
                          "give Sluice two free bits: intercept.marks: { mask: …, mark: … }"});
    if (rule.mask == 0 && rule.table == marks.table)
      findings.push_back({"marks", used ? Level::problem : Level::warning,
                          message("another tool uses Sluice's routing table {}: {}", marks.table,
                                  to_text(rule)),
                          "give Sluice another: intercept.marks: { table: …, priority: … }"});
  }
  if (findings.empty())
    findings.push_back({"marks", Level::good,
                        message("no other rule looks at {}, table {} is Sluice's", hex(marks.mask),
                                marks.table),
                        ""});
  return findings;
}

}  // namespace sluice::kernel
