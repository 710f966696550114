#include "kernel/guard_xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <linux/bpf.h>
#include <linux/if_link.h>

#include "kernel/message.h"

namespace sluice::kernel {
namespace {

AttachError refused(int code, const Interface& where, bool generic) {
  const char* mode = generic ? "xdp-generic" : "xdp";
  __u32 other = 0;
  if (code == EBUSY || code == EEXIST) {
    const bool known = bpf_xdp_query_id(static_cast<int>(where.index), 0, &other) == 0;
    const std::string which = known && other != 0 ? message(" (id {})", other) : "";
    return {code,
            {message("cannot attach the guard to {} by {}: another XDP program{} is there; take "
                     "it away (ip link set dev {} xdp off) or use guard.attach: tc",
                     where.name, mode, which, where.name)}};
  }
  if (!generic && code == EOPNOTSUPP) {
    return {code,
            {message("cannot attach the guard to {} by xdp: its driver has none; use "
                     "guard.attach: xdp-generic or tc",
                     where.name)}};
  }
  return {code,
          {message("cannot attach the guard to {} by {}: {} (its MTU or channels may be in the "
                   "way); use guard.attach: tc",
                   where.name, mode, std::strerror(code))}};
}

}  // namespace

AttachResult attach_xdp(int program, const Interface& where, bool generic) {
  if (!where.ethernet) {
    return std::unexpected(AttachError{
        EOPNOTSUPP,
        {message("cannot attach the guard to {} by XDP: it carries no Ethernet frames; leave it "
                 "out of guard.interfaces or use guard.attach: tc",
                 where.name)}});
  }
  LIBBPF_OPTS(bpf_link_create_opts, options,
              .flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
  Descriptor link(bpf_link_create(program, static_cast<int>(where.index), BPF_XDP, &options));
  if (link) return link;
  return std::unexpected(refused(errno, where, generic));
}

unsigned xdp_interface(int link) {
  bpf_link_info info{};
  __u32 length = sizeof(info);
  if (bpf_obj_get_info_by_fd(link, &info, &length) != 0 || info.type != BPF_LINK_TYPE_XDP) return 0;
  return info.xdp.ifindex;
}

bool xdp_is_generic(unsigned interface_index) {
  __u32 id = 0;
  return bpf_xdp_query_id(static_cast<int>(interface_index), XDP_FLAGS_SKB_MODE, &id) == 0 &&
         id != 0;
}

}  // namespace sluice::kernel
