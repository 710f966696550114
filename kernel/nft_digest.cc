#include "kernel/nft_digest.h"

#include <functional>
#include <libmnl/libmnl.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <memory>
#include <set>
#include <span>
#include <string>

#include "kernel/netlink.h"
#include "kernel/netlink_attributes.h"
#include "kernel/nft_batch.h"

namespace sluice::kernel {
namespace {

constexpr std::uint8_t kFamily = 1;  // NFPROTO_INET

std::uint16_t subsystem(int type) {
  return static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type);
}

// FNV-1a.
class Digest {
 public:
  void add(std::span<const char> bytes) {
    for (const char byte : bytes)
      value_ = (value_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3ULL;
  }
  std::uint64_t value() const { return value_ | 1; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

const nlattr* attribute(const nlmsghdr& header, std::uint16_t type) {
  return NetlinkAttributes(header, sizeof(nfgenmsg)).find(type);
}

std::string text_of(const nlmsghdr& header, std::uint16_t type) {
  const nlattr* found = attribute(header, type);
  return found ? mnl_attr_get_str(found) : "";
}

bool table_is_there(NetlinkSocket& socket, const char* name = kNftTable) {
  NetlinkMessage table(subsystem(NFT_MSG_GETTABLE), 0);
  table.extra<nfgenmsg>().nfgen_family = kFamily;
  mnl_attr_put_strz(table.header(), NFTA_TABLE_NAME, name);
  return socket.request(table) == 0;
}

// `set` non-empty: its elements. Every object's attribute 1 is the table's name.
int dump(NetlinkSocket& socket, int type, const std::string& set,
         const std::function<void(const nlmsghdr&)>& each, const char* table = kNftTable) {
  NetlinkMessage request(subsystem(type), 0);
  request.extra<nfgenmsg>().nfgen_family = kFamily;
  mnl_attr_put_strz(request.header(), NFTA_TABLE_NAME, table);
  if (!set.empty()) mnl_attr_put_strz(request.header(), NFTA_SET_ELEM_LIST_SET, set.c_str());
  return socket.dump(request, [&](const nlmsghdr& header) {
    if (text_of(header, NFTA_TABLE_NAME) == table) each(header);
  });
}

// Without the header of nfnetlink, which counts everybody's changes.
std::span<const char> body_of(const nlmsghdr& header) {
  const auto* begin =
      static_cast<const char*>(mnl_nlmsg_get_payload_offset(&header, sizeof(nfgenmsg)));
  const auto* end = static_cast<const char*>(mnl_nlmsg_get_payload_tail(&header));
  return {begin, end};
}

NftCount counters_of(const nlmsghdr& header) {
  NftCount count;
  const std::unique_ptr<nftnl_rule, decltype(&nftnl_rule_free)> rule(nftnl_rule_alloc(),
                                                                     &nftnl_rule_free);
  if (!rule || nftnl_rule_nlmsg_parse(&header, rule.get()) < 0) return count;
  const auto add = [](nftnl_expr* expression, void* sum) {
    if (std::string_view(nftnl_expr_get_str(expression, NFTNL_EXPR_NAME)) == "counter")
      *static_cast<NftCount*>(sum) +=
          NftCount{nftnl_expr_get_u64(expression, NFTNL_EXPR_CTR_PACKETS),
                   nftnl_expr_get_u64(expression, NFTNL_EXPR_CTR_BYTES)};
    return 0;
  };
  nftnl_expr_foreach(rule.get(), add, &count);
  return count;
}

}  // namespace

std::uint64_t nft_table_digest() {
  NetlinkSocket socket(NETLINK_NETFILTER);
  if (!socket.valid() || !table_is_there(socket)) return 0;
  Digest digest;
  const auto add = [&](const nlmsghdr& header) { digest.add(body_of(header)); };
  dump(socket, NFT_MSG_GETCHAIN, "", add);
  dump(socket, NFT_MSG_GETRULE, "", add);
  std::set<std::string> sets;
  dump(socket, NFT_MSG_GETSET, "", [&](const nlmsghdr& header) {
    sets.insert(text_of(header, NFTA_SET_NAME));
    add(header);
  });
  for (const auto& set : sets) {
    if (!set.starts_with("lease_")) dump(socket, NFT_MSG_GETSETELEM, set, add);
  }
  return digest.value();
}

int count_nft_rules(const char* table) {
  NetlinkSocket socket(NETLINK_NETFILTER);
  if (!socket.valid() || !table_is_there(socket, table)) return -1;
  int rules = 0;
  const int error = dump(
      socket, NFT_MSG_GETRULE, "",
      [&](const nlmsghdr& header) {
        if (header.nlmsg_type == subsystem(NFT_MSG_NEWRULE)) rules++;
      },
      table);
  return error == 0 ? rules : -1;
}

NftCount nft_count_of(const char* table, const char* chain) {
  NftCount count;
  NetlinkSocket socket(NETLINK_NETFILTER);
  if (!socket.valid() || !table_is_there(socket, table)) return count;
  dump(
      socket, NFT_MSG_GETRULE, "",
      [&](const nlmsghdr& header) {
        if (text_of(header, NFTA_RULE_CHAIN) == chain) count += counters_of(header);
      },
      table);
  return count;
}

}  // namespace sluice::kernel
