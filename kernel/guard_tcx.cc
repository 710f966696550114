#include "kernel/guard_tcx.h"

#include <array>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

#include "kernel/message.h"

namespace sluice::kernel {
namespace {

// Newer than the headers that this is built with (Linux 6.6, include/uapi/linux/bpf.h).
constexpr auto kIngress = static_cast<bpf_attach_type>(46);
constexpr auto kEgress = static_cast<bpf_attach_type>(47);
constexpr std::uint32_t kLinkType = 11;
constexpr std::uint32_t kBefore = 1U << 3;
constexpr std::uint32_t kAfter = 1U << 4;
constexpr std::uint32_t kRelativeIsLink = 1U << 13;
constexpr std::size_t kLongestChain = 64;  // BPF_MPROG_MAX

bpf_attach_type attach_type(GuardEntry entry) {
  return entry == GuardEntry::tc_egress ? kEgress : kIngress;
}

}  // namespace

std::uint32_t program_id(int program) {
  bpf_prog_info info{};
  __u32 length = sizeof(info);
  return bpf_obj_get_info_by_fd(program, &info, &length) == 0 ? info.id : 0;
}

AttachResult attach_tcx(int program, const Interface& where, GuardEntry entry, bool first) {
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = first ? kBefore : 0U);
  Descriptor link(
      bpf_link_create(program, static_cast<int>(where.index), attach_type(entry), &options));
  if (link) return link;
  const int code = errno;
  return std::unexpected(AttachError{
      code,
      {message("cannot attach the guard to {} by tcx: {}", where.name, std::strerror(code))}});
}

AttachResult attach_tcx_behind(int program, const Interface& where, const Descriptor& link,
                               const char* what) {
  // As include/uapi/linux/bpf.h of Linux 6.6 has it; libbpf 1.1 knows no relative place.
  struct {
    __u32 program, interface_index, attach_type, flags, relative_fd, reserved;
    __u64 expected_revision;
  } request{static_cast<__u32>(program), where.index, kIngress, kBefore, 0, 0, 0};
  const auto create = [&] {
    return Descriptor(
        static_cast<int>(::syscall(__NR_bpf, BPF_LINK_CREATE, &request, sizeof(request))));
  };
  if (link && tcx_interface(link.get()) == where.index) {
    auto behind = request;
    behind.flags = kAfter | kRelativeIsLink;
    behind.relative_fd = static_cast<__u32>(link.get());
    std::swap(request, behind);
    if (Descriptor made = create()) return made;
    std::swap(request, behind);
  }
  if (Descriptor made = create()) return made;
  const int code = errno;
  return std::unexpected(AttachError{
      code, {message("cannot attach {} to {} by tcx: {}", what, where.name, std::strerror(code))}});
}

unsigned tcx_interface(int link) {
  bpf_link_info info{};
  __u32 length = sizeof(info);
  if (bpf_obj_get_info_by_fd(link, &info, &length) != 0 || info.type != kLinkType) return 0;
  return info.xdp.ifindex;  // tcx has the index at the same place, the first of the union
}

std::optional<bool> tcx_position(int link, unsigned interface_index, GuardEntry entry) {
  bpf_link_info info{};
  __u32 length = sizeof(info);
  std::array<__u32, kLongestChain> ids{};
  __u32 count = ids.size();
  if (bpf_obj_get_info_by_fd(link, &info, &length) != 0 ||
      bpf_prog_query(static_cast<int>(interface_index), attach_type(entry), 0, nullptr, ids.data(),
                     &count) != 0 ||
      count < 2) {
    return std::nullopt;
  }
  if (ids[0] == info.prog_id) return true;
  if (ids[count - 1] == info.prog_id) return false;
  return std::nullopt;
}

}  // namespace sluice::kernel
