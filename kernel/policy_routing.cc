#include "kernel/policy_routing.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iomanip>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "kernel/message.h"
#include "kernel/netlink.h"
#include "kernel/netlink_attributes.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr int kIfindexLo = 1;
constexpr std::uint32_t kMainPriority = 32766;

std::uint8_t family_of(bool v4) {
  return v4 ? AF_INET : AF_INET6;
}

Prefix everything(bool v4) {
  return v4 ? all_of_v4() : Prefix{};
}

std::string hex(std::uint32_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

std::string text_of(const RoutingRule& rule) {
  const std::string marked =
      rule.mask == 0 ? "" : message(" fwmark {}/{}", hex(rule.mark), hex(rule.mask));
  return message("ip{} rule pref {}{}{}{} lookup {}", rule.v4 ? "" : " -6", rule.priority,
                 rule.from ? " from " + to_text(*rule.from) : "", rule.iif_lo ? " iif lo" : "",
                 marked, rule.table);
}

std::string text_of(const LocalRoute& route) {
  return message("ip{} route local {} dev lo table {}", route.prefix.v4 ? "" : " -6",
                 to_text(route.prefix), route.table);
}

Error route_error(const std::string& what, int error) {
  const char* hint = "";
  if (error == ENETDOWN) hint = "; the loopback interface is down: run `ip link set lo up`";
  if (error == EPERM) hint = "; CAP_NET_ADMIN is needed";
  if (error == EOPNOTSUPP || error == EAFNOSUPPORT)
    hint = "; this kernel lacks policy routing for that IP version";
  return {message("policy routing: {}: {}{}", what, std::strerror(error), hint)};
}

struct SeenRule {
  RoutingRule rule;
  std::uint8_t protocol = 0;
};

SeenRule parse_rule(const nlmsghdr& header) {
  const auto* fixed = static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(&header));
  SeenRule seen;
  seen.rule.v4 = fixed->family == AF_INET;
  seen.rule.table = fixed->table;
  seen.rule.mask = 0;
  for (const nlattr* attribute : NetlinkAttributes(header, sizeof(*fixed))) {
    switch (mnl_attr_get_type(attribute)) {
      case FRA_PRIORITY:
        seen.rule.priority = mnl_attr_get_u32(attribute);
        break;
      case FRA_FWMARK:
        seen.rule.mark = mnl_attr_get_u32(attribute);
        break;
      case FRA_FWMASK:
        seen.rule.mask = mnl_attr_get_u32(attribute);
        break;
      case FRA_TABLE:
        seen.rule.table = mnl_attr_get_u32(attribute);
        break;
      case FRA_IIFNAME:
        seen.rule.iif_lo = std::strcmp(mnl_attr_get_str(attribute), "lo") == 0;
        break;
      case FRA_SRC:
        seen.rule.from = everything(seen.rule.v4);
        seen.rule.from->length =
            static_cast<std::uint8_t>(fixed->src_len + (seen.rule.v4 ? 96 : 0));
        std::memcpy(seen.rule.from->address.data() + (seen.rule.v4 ? 12 : 0),
                    mnl_attr_get_payload(attribute), seen.rule.v4 ? 4 : 16);
        break;
      case FRA_PROTOCOL:
        seen.protocol = mnl_attr_get_u8(attribute);
        break;
      default:
        break;
    }
  }
  return seen;
}

Result<std::vector<SeenRule>> read_rules(NetlinkSocket& socket) {
  std::vector<SeenRule> seen;
  for (const bool v4 : {true, false}) {
    NetlinkMessage request(RTM_GETRULE, 0);
    request.extra<fib_rule_hdr>().family = family_of(v4);
    const int error = socket.dump(request, [&](const nlmsghdr& header) {
      if (header.nlmsg_type == RTM_NEWRULE) seen.push_back(parse_rule(header));
    });
    if (error != 0 && error != EAFNOSUPPORT && error != EOPNOTSUPP) {
      return std::unexpected(route_error("cannot list rules", error));
    }
  }
  return seen;
}

struct SeenRoute {
  LocalRoute route;
  std::uint8_t protocol = 0;
};

SeenRoute parse_route(const nlmsghdr& header) {
  const auto* fixed = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(&header));
  const bool v4 = fixed->rtm_family == AF_INET;
  SeenRoute seen{{fixed->rtm_table, everything(v4)}, fixed->rtm_protocol};
  seen.route.prefix.length = static_cast<std::uint8_t>(fixed->rtm_dst_len + (v4 ? 96 : 0));
  for (const nlattr* attribute : NetlinkAttributes(header, sizeof(*fixed))) {
    if (mnl_attr_get_type(attribute) == RTA_TABLE) seen.route.table = mnl_attr_get_u32(attribute);
    if (mnl_attr_get_type(attribute) == RTA_DST) {
      std::memcpy(seen.route.prefix.address.data() + (v4 ? 12 : 0), mnl_attr_get_payload(attribute),
                  v4 ? 4 : 16);
    }
  }
  return seen;
}

// The kernel filters, so that a full table of the Internet is not copied each time. 0: no filter.
Result<std::vector<SeenRoute>> read_routes(NetlinkSocket& socket, std::uint8_t protocol,
                                           std::uint32_t table) {
  std::vector<SeenRoute> seen;
  for (const bool v4 : {true, false}) {
    NetlinkMessage request(RTM_GETROUTE, 0);
    auto& fixed = request.extra<rtmsg>();
    fixed.rtm_family = family_of(v4);
    fixed.rtm_protocol = protocol;
    if (table != 0) mnl_attr_put_u32(request.header(), RTA_TABLE, table);
    const int error = socket.dump(request, [&](const nlmsghdr& header) {
      if (header.nlmsg_type == RTM_NEWROUTE) seen.push_back(parse_route(header));
    });
    // ENOENT: no such table yet.
    if (error != 0 && error != ENOENT && error != EAFNOSUPPORT && error != EOPNOTSUPP) {
      return std::unexpected(route_error("cannot list routes", error));
    }
  }
  return seen;
}

int change_rule(NetlinkSocket& socket, std::uint16_t type, const RoutingRule& rule) {
  NetlinkMessage request(type, type == RTM_NEWRULE ? NLM_F_CREATE | NLM_F_EXCL : 0);
  auto& fixed = request.extra<fib_rule_hdr>();
  fixed.family = family_of(rule.v4);
  fixed.action = FR_ACT_TO_TBL;
  mnl_attr_put_u32(request.header(), FRA_PRIORITY, rule.priority);
  if (rule.mask != 0) {
    mnl_attr_put_u32(request.header(), FRA_FWMARK, rule.mark);
    mnl_attr_put_u32(request.header(), FRA_FWMASK, rule.mask);
  }
  if (rule.from) {
    fixed.src_len = static_cast<std::uint8_t>(own_length(*rule.from));
    mnl_attr_put(request.header(), FRA_SRC, rule.v4 ? 4 : 16,
                 rule.from->address.data() + (rule.v4 ? 12 : 0));
  }
  mnl_attr_put_u32(request.header(), FRA_TABLE, rule.table);
  mnl_attr_put_u8(request.header(), FRA_PROTOCOL, kRouteProtocol);
  if (rule.iif_lo) mnl_attr_put_strz(request.header(), FRA_IIFNAME, "lo");
  return socket.request(request);
}

int change_route(NetlinkSocket& socket, std::uint16_t type, const LocalRoute& route) {
  NetlinkMessage request(type, type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_EXCL : 0);
  auto& fixed = request.extra<rtmsg>();
  const bool v4 = route.prefix.v4;
  fixed.rtm_family = family_of(v4);
  fixed.rtm_dst_len = static_cast<std::uint8_t>(own_length(route.prefix));
  fixed.rtm_table = RT_TABLE_UNSPEC;
  fixed.rtm_protocol = kRouteProtocol;
  fixed.rtm_scope = RT_SCOPE_HOST;
  fixed.rtm_type = RTN_LOCAL;
  mnl_attr_put_u32(request.header(), RTA_TABLE, route.table);
  if (fixed.rtm_dst_len > 0) {
    mnl_attr_put(request.header(), RTA_DST, v4 ? 4 : 16,
                 route.prefix.address.data() + (v4 ? 12 : 0));
  }
  mnl_attr_put_u32(request.header(), RTA_OIF, kIfindexLo);
  return socket.request(request);
}

bool ipv6_missing(int error) {
  return error == EAFNOSUPPORT || error == EOPNOTSUPP;
}

Result<std::size_t> add_missing(NetlinkSocket& socket, const Routing& present,
                                const Routing& wanted) {
  std::size_t added = 0;
  for (const auto& route : wanted.routes) {
    if (present.routes.contains(route)) continue;
    const int error = change_route(socket, RTM_NEWROUTE, route);
    if (!route.prefix.v4 && ipv6_missing(error))
      continue;  // ipv6.disable=1: there is nothing to intercept
    // Somebody has the very route already: it serves us, and stays theirs.
    if (error != 0 && error != EEXIST)
      return std::unexpected(route_error("cannot add " + text_of(route), error));
    added += error == 0 ? 1 : 0;
  }
  for (const auto& rule : wanted.rules) {
    if (present.rules.contains(rule)) continue;
    const int error = change_rule(socket, RTM_NEWRULE, rule);
    if (!rule.v4 && ipv6_missing(error)) continue;
    if (error != 0 && error != EEXIST)
      return std::unexpected(route_error("cannot add " + text_of(rule), error));
    added += error == 0 ? 1 : 0;
  }
  return added;
}

std::vector<std::string> remove_unwanted(NetlinkSocket& socket, const Routing& present,
                                         const Routing& wanted) {
  std::vector<std::string> removed;
  for (const auto& rule : present.rules) {
    if (wanted.rules.contains(rule)) continue;
    if (change_rule(socket, RTM_DELRULE, rule) == 0) removed.push_back(text_of(rule));
  }
  for (const auto& route : present.routes) {
    if (wanted.routes.contains(route)) continue;
    if (change_route(socket, RTM_DELROUTE, route) == 0) removed.push_back(text_of(route));
  }
  return removed;
}

Result<Routing> read_ours(NetlinkSocket& socket) {
  Routing ours;
  auto rules = read_rules(socket);
  if (!rules) return std::unexpected(rules.error());
  for (const auto& seen : *rules) {
    if (seen.protocol == kRouteProtocol) ours.rules.insert(seen.rule);
  }
  auto routes = read_routes(socket, kRouteProtocol, 0);
  if (!routes) return std::unexpected(routes.error());
  for (const auto& seen : *routes) {
    if (seen.protocol == kRouteProtocol) ours.routes.insert(seen.route);
  }
  return ours;
}

std::vector<Prefix> loopbacks() {
  Prefix v4 = all_of_v4();
  v4.address[12] = 127;
  v4.length = 104;
  Prefix v6{{}, 128, false};
  v6.address[15] = 1;
  return {v4, v6};
}

// Marks of others may share a word with ours, not bits. A rule that compares the whole word with a
// value outside our bits (wg-quick's) is no conflict.
bool marks_clash(const RoutingRule& theirs, const Marks& marks) {
  if ((theirs.mask & marks.mask) == 0) return false;
  return theirs.mask != 0xffffffff || (theirs.mark & marks.mask) != 0;
}

std::optional<RuleClash::Over> clash_of(const RoutingRule& theirs, const Marks& marks) {
  using Over = RuleClash::Over;
  if (marks_clash(theirs, marks)) return Over::marks;
  if (theirs.table == marks.table) return Over::table;
  const bool taken = theirs.priority == marks.priority || theirs.priority == marks.priority + 1;
  return taken ? std::optional(Over::priority) : std::nullopt;
}

std::string refusal(const RuleClash& clash, const Marks& marks) {
  switch (clash.over) {
    case RuleClash::Over::marks:
      return message("`{}` is somebody else's and uses bits of mask {}; choose other bits",
                     clash.text, hex(marks.mask));
    case RuleClash::Over::table:
      return message("table {} is used by somebody else's `{}`; choose another", marks.table,
                     clash.text);
    case RuleClash::Over::priority:
      break;
  }
  return message(
      "priority {} is used by somebody else's `{}`; choose another (two in a row are needed)",
      clash.rule.priority, clash.text);
}

}  // namespace

Routing routing_for(const Plan& plan, const std::vector<Prefix>& own_addresses) {
  Routing wanted;
  if (!uses_marks(plan)) return wanted;
  const Marks& marks = plan.marks;
  for (const bool v4 : {true, false}) {
    wanted.routes.insert({marks.table, everything(v4)});
    // The reverse path check looks up with the mark too (src_valid_mark=1), as if from lo, and
    // would find the client's address local, a martian: for it, the main table.
    wanted.rules.insert({v4, marks.priority, marks.intercepted(), marks.mask, RT_TABLE_MAIN, true});
    wanted.rules.insert(
        {v4, marks.priority + 1, marks.intercepted(), marks.mask, marks.table, false});
    wanted.rules.insert(
        {v4, marks.priority + 1, marks.intercepted_output(), marks.mask, marks.table, false});
  }
  // What an upstream on a loopback address sends to a client's would find no route: nobody may
  // leave the node from there.
  for (const Prefix& loopback : plan.client_source ? loopbacks() : std::vector<Prefix>{})
    wanted.rules.insert({loopback.v4, marks.priority, 0, 0, marks.table, true, loopback});
  for (const auto& intercept : plan.intercepts) {
    if (intercept.way != WayIn::local) continue;
    for (const auto& prefix : intercept.to) {
      const bool own =
          std::find(own_addresses.begin(), own_addresses.end(), prefix) != own_addresses.end();
      if (!own) wanted.routes.insert({RT_TABLE_LOCAL, prefix});
    }
  }
  return wanted;
}

Result<Routing> read_routing() {
  NetlinkSocket socket(NETLINK_ROUTE);
  if (!socket.valid()) return std::unexpected(route_error("cannot open rtnetlink", errno));
  return read_ours(socket);
}

Result<std::size_t> apply_routing(const Routing& wanted) {
  NetlinkSocket socket(NETLINK_ROUTE);
  if (!socket.valid()) return std::unexpected(route_error("cannot open rtnetlink", errno));
  auto present = read_ours(socket);
  if (!present) return std::unexpected(present.error());
  auto added = add_missing(socket, *present, wanted);
  if (added) remove_unwanted(socket, *present, wanted);
  return added;
}

Result<std::vector<RuleClash>> rule_clashes(const Marks& marks) {
  NetlinkSocket socket(NETLINK_ROUTE);
  if (!socket.valid()) return std::unexpected(route_error("cannot open rtnetlink", errno));
  const auto rules = read_rules(socket);
  if (!rules) return std::unexpected(rules.error());
  std::vector<RuleClash> clashes;
  for (const auto& [rule, protocol] : *rules) {
    if (protocol == kRouteProtocol) continue;
    if (const auto over = clash_of(rule, marks)) clashes.push_back({*over, rule, text_of(rule)});
  }
  return clashes;
}

Result<void> check_marks_free(const Marks& marks) {
  const auto refuse = [](std::string text) {
    return std::unexpected(Error{"intercept.marks: " + std::move(text)});
  };
  if (marks.mark == 0 || ((marks.mark | marks.mark << 1) & ~marks.mask) != 0 ||
      (marks.mark & (marks.mark - 1)) != 0) {
    return refuse(message("mark {} must be one bit, and it and the next one within mask {}",
                          hex(marks.mark), hex(marks.mask)));
  }
  if (marks.priority == 0 || marks.priority + 1 >= kMainPriority) {
    return refuse(message("priority {} must be between 1 and {}, before the main table",
                          marks.priority, kMainPriority - 2));
  }
  const auto clashes = rule_clashes(marks);
  if (!clashes) return std::unexpected(clashes.error());
  if (!clashes->empty()) return refuse(refusal(clashes->front(), marks));
  NetlinkSocket socket(NETLINK_ROUTE);
  if (!socket.valid()) return std::unexpected(route_error("cannot open rtnetlink", errno));
  auto routes = read_routes(socket, 0, marks.table);
  if (!routes) return std::unexpected(routes.error());
  for (const auto& [route, protocol] : *routes) {
    if (protocol == kRouteProtocol || route.table != marks.table) continue;
    return refuse(message("table {} holds somebody else's route to {}; choose another", marks.table,
                          to_text(route.prefix)));
  }
  return {};
}

std::vector<std::string> remove_routing() {
  NetlinkSocket socket(NETLINK_ROUTE);
  if (!socket.valid()) return {};
  const auto present = read_ours(socket);
  return present ? remove_unwanted(socket, *present, {}) : std::vector<std::string>{};
}

}  // namespace sluice::kernel
