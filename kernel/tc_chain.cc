#include "kernel/tc_chain.h"

#include <array>
#include <bpf/bpf.h>
#include <libmnl/libmnl.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <utility>

#include "kernel/keeper_protocol.h"
#include "kernel/netlink.h"
#include "kernel/netlink_attributes.h"

namespace sluice::kernel {
namespace {

using protocol::OwnedFd;

constexpr auto kChainIngress = static_cast<bpf_attach_type>(46);
constexpr auto kChainEgress = static_cast<bpf_attach_type>(47);
constexpr std::size_t kLongestTcChain = 64;

}  // namespace

TcProgram program_of(std::uint32_t id) {
  const OwnedFd fd(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  __u32 length = sizeof(info);
  if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0) return {id, ""};
  return {id, info.name};
}

std::vector<TcProgram> attached_programs(int target, bpf_attach_type type) {
  std::array<__u32, kLongestTcChain> ids{};
  __u32 count = ids.size();
  std::vector<TcProgram> programs;
  if (bpf_prog_query(target, type, 0, nullptr, ids.data(), &count) != 0) return programs;
  for (__u32 i = 0; i < count; ++i)
    programs.push_back(program_of(ids[i]));
  return programs;
}

std::vector<TcProgram> tcx_programs(unsigned interface_index, bool egress) {
  return attached_programs(static_cast<int>(interface_index),
                           egress ? kChainEgress : kChainIngress);
}

std::vector<TcProgram> clsact_filters(unsigned interface_index, bool egress) {
  std::vector<TcProgram> filters;
  NetlinkSocket socket(NETLINK_ROUTE);
  NetlinkMessage request(RTM_GETTFILTER, 0);
  auto& fixed = request.extra<tcmsg>();
  fixed.tcm_family = AF_UNSPEC;
  fixed.tcm_ifindex = static_cast<int>(interface_index);
  fixed.tcm_parent = TC_H_MAKE(TC_H_CLSACT, egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS);
  if (!socket.valid()) return filters;
  socket.dump(request, [&](const nlmsghdr& header) {
    if (header.nlmsg_type != RTM_NEWTFILTER) return;
    // The dump tells of each priority, too, which is no filter.
    if (static_cast<const tcmsg*>(mnl_nlmsg_get_payload(&header))->tcm_handle == 0) return;
    TcProgram filter;
    const NetlinkAttributes attributes(header, sizeof(tcmsg));
    if (const nlattr* kind = attributes.find(TCA_KIND)) filter.name = mnl_attr_get_str(kind);
    // Of other kinds the numbers inside mean something else.
    const nlattr* options = filter.name == "bpf" ? attributes.find(TCA_OPTIONS) : nullptr;
    if (options != nullptr) {
      const NetlinkAttributes inner(*options);
      if (const nlattr* name = inner.find(TCA_BPF_NAME)) filter.name = mnl_attr_get_str(name);
      if (const nlattr* id = inner.find(TCA_BPF_ID)) filter.id = mnl_attr_get_u32(id);
    }
    filter.name = filter.name.substr(0, filter.name.find(":["));  // libbpf has the id in it
    if (!filter.name.empty() && (filters.empty() || filters.back() != filter))
      filters.push_back(std::move(filter));
  });
  return filters;
}

std::vector<TcProgram> tc_chain(unsigned interface_index, bool egress) {
  auto chain = tcx_programs(interface_index, egress);
  for (auto& filter : clsact_filters(interface_index, egress))
    chain.push_back(std::move(filter));
  return chain;
}

}  // namespace sluice::kernel
