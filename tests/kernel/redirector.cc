#include "tests/kernel/redirector.h"

#include <bpf/bpf.h>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <netinet/in.h>

namespace sluice::kernel::testing {

protocol::OwnedFd redirect_past_netfilter(const std::string& from, const std::string& to) {
  const auto set = [](__u8 destination, __s32 value) {
    return bpf_insn{BPF_ALU64 | BPF_MOV | BPF_K, destination, 0, 0, value};
  };
  // ARP stays: the client has to find its gateway.
  const bpf_insn program[] = {
      {BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, offsetof(__sk_buff, protocol), 0},
      {BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_2, 0, 2, htons(ETH_P_IP)},
      set(BPF_REG_0, TC_ACT_UNSPEC),
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
      set(BPF_REG_1, static_cast<__s32>(::if_nametoindex(to.c_str()))),
      set(BPF_REG_2, 0),
      set(BPF_REG_3, 0),
      set(BPF_REG_4, 0),
      {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_neigh},
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  const protocol::OwnedFd loaded(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "cil_from_contai", "GPL",
                                               program, std::size(program), nullptr));
  EXPECT_TRUE(loaded) << std::strerror(errno);
  constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
  protocol::OwnedFd link(bpf_link_create(
      loaded.get(), static_cast<int>(::if_nametoindex(from.c_str())), kTcxIngress, nullptr));
  EXPECT_TRUE(link) << std::strerror(errno);
  return link;
}

}  // namespace sluice::kernel::testing
