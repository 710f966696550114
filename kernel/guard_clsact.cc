#include "kernel/guard_clsact.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>

#include "kernel/message.h"

namespace sluice::kernel {
namespace {

constexpr std::uint32_t kHandle = 0x51c;
constexpr std::uint32_t kTakesHandle = 0x51d;
// The kernel gives 0xc000 and less to filters without a priority.
constexpr std::uint32_t kFirst = 1;
constexpr std::uint32_t kLast = 0xfffe;

// Absent qdiscs and filters are the rule here, not news.
class QuietLibbpf {
 public:
  QuietLibbpf() : former_(libbpf_set_print(nullptr)) {}
  ~QuietLibbpf() { libbpf_set_print(former_); }
  QuietLibbpf(const QuietLibbpf&) = delete;
  QuietLibbpf& operator=(const QuietLibbpf&) = delete;

 private:
  libbpf_print_fn_t former_;
};

bpf_tc_hook hook_of(const ClsactPlace& place) {
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(place.interface_index);
  hook.attach_point = place.entry == GuardEntry::tc_egress ? BPF_TC_EGRESS : BPF_TC_INGRESS;
  return hook;
}

// Of filters of one priority the newest runs first.
std::uint32_t priority(const ClsactPlace& place) {
  if (place.takes) return place.first ? kFirst : kFirst + 1;
  return place.first ? kFirst : kLast;
}

std::uint32_t handle(const ClsactPlace& place) {
  return place.takes ? kTakesHandle : kHandle;
}

AttachError failed(int code, const std::string& what) {
  return {code, {message("{}: {}", what, std::strerror(code))}};
}

}  // namespace

AttachResult attach_clsact(int program, const Interface& where, const ClsactPlace& place,
                           bool replace_ours) {
  const QuietLibbpf quiet;
  bpf_tc_hook hook = hook_of(place);
  const int created = bpf_tc_hook_create(&hook);
  if (created != 0 && created != -EEXIST)
    return std::unexpected(failed(-created, "cannot add a clsact qdisc to " + where.name));
  const std::uint32_t there = clsact_program(place);
  if (there != 0 && !replace_ours) {
    const char* direction = place.entry == GuardEntry::tc_egress ? "egress" : "ingress";
    return std::unexpected(AttachError{
        EEXIST,
        {message("{}: another TC filter (program {}) has handle {} and priority {}, which "
                 "sluice uses; remove that one (tc filter del dev {} {} pref {})",
                 where.name, there, handle(place), priority(place), where.name, direction,
                 priority(place))}});
  }
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program,
              .flags = there != 0 ? std::uint32_t{BPF_TC_F_REPLACE} : 0U, .handle = handle(place),
              .priority = priority(place));
  const int attached = bpf_tc_attach(&hook, &options);
  if (attached == 0) return Descriptor();
  return std::unexpected(
      failed(-attached, message("cannot attach {} to {} by clsact",
                                place.takes ? "interception" : "the guard", where.name)));
}

std::uint32_t clsact_program(const ClsactPlace& place) {
  const QuietLibbpf quiet;
  const bpf_tc_hook hook = hook_of(place);
  LIBBPF_OPTS(bpf_tc_opts, options, .handle = handle(place), .priority = priority(place));
  return bpf_tc_query(&hook, &options) == 0 ? options.prog_id : 0;
}

bool remove_clsact(const ClsactPlace& place) {
  const QuietLibbpf quiet;
  const bpf_tc_hook hook = hook_of(place);
  LIBBPF_OPTS(bpf_tc_opts, options, .handle = handle(place), .priority = priority(place));
  return bpf_tc_detach(&hook, &options) == 0;
}

}  // namespace sluice::kernel
