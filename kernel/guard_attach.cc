#include "kernel/guard_attach.h"

#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <linux/bpf.h>
#include <net/if.h>
#include <optional>
#include <unistd.h>

#include "kernel/message.h"

namespace sluice::kernel {
namespace {

namespace fs = std::filesystem;

// Newer than the headers that this is built with (Linux 6.6, include/uapi/linux/bpf.h).
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr std::uint32_t kLinkTypeTcx = 11;
constexpr std::uint32_t kBefore = 1U << 3;

constexpr const char* kLinkPrefix = "guard_link_";
constexpr const char* kProgramPin = "guard_program";
// Of our clsact filters. What else is found there is somebody else's, and stays.
constexpr std::uint32_t kHandle = 0x51c;
constexpr std::uint32_t kPriority = 0x51c;

std::string pin_name(unsigned index) {
  return kLinkPrefix + std::to_string(index);
}

Error failed(const std::string& what) {
  return Error{message("{}: {}", what, std::strerror(errno))};
}

std::string name_of(unsigned index) {
  std::array<char, IF_NAMESIZE> name{};
  return ::if_indextoname(index, name.data()) != nullptr ? name.data()
                                                         : message("interface {}", index);
}

// The interface that a tcx link hangs on; 0: none any more.
unsigned interface_of(int link) {
  bpf_link_info info{};
  __u32 length = sizeof(info);
  if (bpf_obj_get_info_by_fd(link, &info, &length) != 0 || info.type != kLinkTypeTcx) return 0;
  return info.xdp.ifindex;  // tcx has the index at the same place, the first of the union
}

std::uint32_t program_id(int program) {
  bpf_prog_info info{};
  __u32 length = sizeof(info);
  return bpf_obj_get_info_by_fd(program, &info, &length) == 0 ? info.id : 0;
}

bpf_tc_hook hook_of(unsigned index) {
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(index);
  hook.attach_point = BPF_TC_INGRESS;
  return hook;
}

// The program at our handle and priority; 0: none.
std::uint32_t filter_program(unsigned index) {
  const bpf_tc_hook hook = hook_of(index);
  LIBBPF_OPTS(bpf_tc_opts, options, .handle = kHandle, .priority = kPriority);
  return bpf_tc_query(&hook, &options) == 0 ? options.prog_id : 0;
}

bool remove_filter(unsigned index) {
  const bpf_tc_hook hook = hook_of(index);
  LIBBPF_OPTS(bpf_tc_opts, options, .handle = kHandle, .priority = kPriority);
  return bpf_tc_detach(&hook, &options) == 0;
}

// A clsact qdisc says so on the way: absent ones are the rule here, not news.
class QuietLibbpf {
 public:
  QuietLibbpf() : former_(libbpf_set_print(nullptr)) {}
  ~QuietLibbpf() { libbpf_set_print(former_); }
  QuietLibbpf(const QuietLibbpf&) = delete;
  QuietLibbpf& operator=(const QuietLibbpf&) = delete;

 private:
  libbpf_print_fn_t former_;
};

std::vector<fs::path> pinned_links(const std::string& directory) {
  std::vector<fs::path> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().filename().string().starts_with(kLinkPrefix)) out.push_back(entry.path());
  }
  return out;
}

}  // namespace

Result<GuardAttachment> GuardAttachment::open(const PinDirectory& pins, GuardAttach how,
                                              int program) {
  GuardAttachment attachment(pins, how, program);
  attachment.program_id_ = program_id(program);
  if (const Descriptor former = pins.get(kProgramPin))
    attachment.former_program_id_ = program_id(former.get());
  attachment.adopt_links();
  if (auto ok = attachment.adopt_filters(); !ok) return std::unexpected(ok.error());
  // Pinned so that the next keeper, and `cleanup`, know our filters from others'.
  if (auto ok = pins.pin(program, kProgramPin); !ok) return std::unexpected(ok.error());
  attachment.former_program_id_ = attachment.program_id_;
  return attachment;
}

void GuardAttachment::adopt_links() {
  for (const fs::path& path : pinned_links(pins_->path())) {
    Descriptor link(bpf_obj_get(path.c_str()));
    const unsigned index = link ? interface_of(link.get()) : 0;
    const bool ours = index != 0 && path.filename().string() == pin_name(index);
    if (ours && bpf_link_update(link.get(), program_, nullptr) == 0) {
      links_[index] = std::move(link);
    } else {
      ::unlink(path.c_str());  // a shell: the interface is gone
    }
  }
}

Result<void> GuardAttachment::adopt_filters() {
  if (former_program_id_ == 0) return {};
  const QuietLibbpf quiet;
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  for (const Interface& where : network->interfaces) {
    if (links_.contains(where.index) || filter_program(where.index) != former_program_id_) continue;
    const bpf_tc_hook hook = hook_of(where.index);
    LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program_, .flags = BPF_TC_F_REPLACE,
                .handle = kHandle, .priority = kPriority);
    if (bpf_tc_attach(&hook, &options) == 0) links_[where.index] = Descriptor();
  }
  return {};
}

Result<Descriptor> GuardAttachment::attach_tcx(const Interface& where, bool first) {
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = first ? kBefore : 0U);
  Descriptor link(bpf_link_create(program_, static_cast<int>(where.index), kTcxIngress, &options));
  last_errno_ = link ? 0 : errno;
  if (!link)
    return std::unexpected(failed(message("cannot attach the guard to {} by tcx", where.name)));
  if (auto ok = pins_->pin(link.get(), pin_name(where.index)); !ok)
    return std::unexpected(ok.error());
  return link;
}

Result<void> GuardAttachment::attach_clsact(const Interface& where) {
  const QuietLibbpf quiet;
  bpf_tc_hook hook = hook_of(where.index);
  const int created = bpf_tc_hook_create(&hook);
  if (created != 0 && created != -EEXIST) {
    last_errno_ = errno = -created;
    return std::unexpected(failed(message("cannot add a clsact qdisc to {}", where.name)));
  }
  const std::uint32_t there = filter_program(where.index);
  if (there != 0 && there != program_id_ && there != former_program_id_) {
    return std::unexpected(
        Error{message("{}: another TC filter (program {}) has handle {} and priority {}, "
                      "which the guard uses; remove that one (tc "
                      "filter del dev {} ingress pref {})",
                      where.name, there, kHandle, kPriority, where.name, kPriority)});
  }
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program_,
              .flags = there != 0 ? std::uint32_t{BPF_TC_F_REPLACE} : 0U, .handle = kHandle,
              .priority = kPriority);
  const int attached = bpf_tc_attach(&hook, &options);
  if (attached == 0) return {};
  last_errno_ = errno = -attached;
  return std::unexpected(failed(message("cannot attach the guard to {} by clsact", where.name)));
}

Result<Descriptor> GuardAttachment::attach_one(const Interface& where, bool first) {
  if (how_ != GuardAttach::clsact) {
    auto link = attach_tcx(where, first);
    // EINVAL is the answer of a kernel before 6.6, which does not know the attach type.
    if (link || how_ == GuardAttach::tcx || last_errno_ != EINVAL) return link;
  }
  if (auto ok = attach_clsact(where); !ok) return std::unexpected(ok.error());
  return Descriptor();
}

Result<void> GuardAttachment::attach(const std::vector<Interface>& wanted, bool first) {
  std::vector<unsigned> added;
  for (const Interface& where : wanted) {
    if (links_.contains(where.index)) continue;
    auto link = attach_one(where, first);
    if (!link) {
      // An interface that went between the dump and here is no error.
      if (last_errno_ == ENODEV) continue;
      for (const unsigned index : added)
        detach_one(index);
      return std::unexpected(link.error());
    }
    links_[where.index] = std::move(*link);
    added.push_back(where.index);
  }
  return {};
}

void GuardAttachment::detach_one(unsigned index) {
  const auto at = links_.find(index);
  if (at == links_.end()) return;
  if (at->second) {
    bpf_link_detach(at->second.get());
    pins_->remove(pin_name(index));
  } else {
    const QuietLibbpf quiet;
    const std::uint32_t there = filter_program(index);
    if (there != 0 && (there == program_id_ || there == former_program_id_)) remove_filter(index);
  }
  links_.erase(at);
}

void GuardAttachment::detach_others(const std::vector<Interface>& wanted) {
  std::vector<unsigned> others;
  for (const auto& [index, link] : links_) {
    if (std::ranges::find(wanted, index, &Interface::index) == wanted.end())
      others.push_back(index);
  }
  for (const unsigned index : others)
    detach_one(index);
}

void GuardAttachment::forget_severed() {
  const QuietLibbpf quiet;
  for (auto at = links_.begin(); at != links_.end();) {
    const bool hangs = at->second ? interface_of(at->second.get()) == at->first
                                  : filter_program(at->first) == program_id_;
    if (hangs) {
      ++at;
      continue;
    }
    pins_->remove(pin_name(at->first));
    at = links_.erase(at);
  }
}

std::vector<std::string> GuardAttachment::remove() {
  std::vector<std::string> removed;
  while (!links_.empty()) {
    const unsigned index = links_.begin()->first;
    removed.push_back("guard of " + name_of(index));
    detach_one(index);
  }
  pins_->remove(kProgramPin);
  return removed;
}

std::vector<std::string> detach_pinned_guard(const std::string& pin_directory) {
  std::vector<std::string> removed;
  for (const fs::path& path : pinned_links(pin_directory)) {
    const Descriptor link(bpf_obj_get(path.c_str()));
    if (const unsigned index = link ? interface_of(link.get()) : 0; index != 0) {
      bpf_link_detach(link.get());
      removed.push_back("guard of " + name_of(index));
    }
    ::unlink(path.c_str());
  }
  const std::string pinned = pin_directory + "/" + kProgramPin;
  const Descriptor program(bpf_obj_get(pinned.c_str()));
  const std::uint32_t id = program ? program_id(program.get()) : 0;
  auto network = read_node_network();
  if (id != 0 && network) {
    const QuietLibbpf quiet;
    for (const Interface& where : network->interfaces) {
      if (filter_program(where.index) == id && remove_filter(where.index))
        removed.push_back("guard of " + where.name);
    }
  }
  ::unlink(pinned.c_str());
  return removed;
}

}  // namespace sluice::kernel
