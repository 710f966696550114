#include "kernel/steer_tc.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <cerrno>
#include <filesystem>
#include <unistd.h>
#include <utility>

#include "kernel/guard_attach.h"
#include "kernel/guard_clsact.h"
#include "kernel/guard_tcx.h"
#include "kernel/message.h"

namespace sluice::kernel {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTakeProgramPin = "steer_take_program";
constexpr const char* kTakeLinkPrefix = "steer_take_link_";

std::string take_link_pin(unsigned index) {
  return kTakeLinkPrefix + std::to_string(index);
}

ClsactPlace take_place(unsigned index, bool first) {
  return {.interface_index = index, .first = first, .takes = true};
}

// A guard that is there stays before it; one that comes later is the newest, and first.
ClsactPlace free_take_place(unsigned index) {
  return take_place(index, clsact_program({.interface_index = index}) == 0);
}

std::vector<fs::path> pinned_take_links(const std::string& directory) {
  std::vector<fs::path> out;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(directory, error)) {
    if (file.path().filename().string().starts_with(kTakeLinkPrefix)) out.push_back(file.path());
  }
  return out;
}

std::vector<std::string> taken_interfaces(const NodeView& node,
                                          const std::vector<std::string>& patterns) {
  auto names =
      matching_interfaces(node, patterns.empty() ? std::vector<std::string>{"*"} : patterns);
  // What this node sends to itself is no forwarded traffic.
  std::erase(names, "lo");
  return names;
}

}  // namespace

SteerTc::SteerTc(const PinDirectory& pins, int program, bool tcx)
    : pins_(pins), program_(program), tcx_(tcx), id_(program_id(program)) {
  if (const Descriptor former = pins_.get(kTakeProgramPin)) former_id_ = program_id(former.get());
  adopt_links();
}

void SteerTc::adopt_links() {
  for (const auto& path : pinned_take_links(pins_.path())) {
    Descriptor link(bpf_obj_get(path.c_str()));
    const unsigned index = link ? tcx_interface(link.get()) : 0;
    if (index == 0 || path.filename().string() != take_link_pin(index) ||
        bpf_link_update(link.get(), program_, nullptr) != 0) {
      ::unlink(path.c_str());  // a shell: the interface is gone
      continue;
    }
    attached_[index] = std::move(link);
  }
}

std::optional<ClsactPlace> SteerTc::own_filter(unsigned index) const {
  for (const bool first : {true, false}) {
    const std::uint32_t there = clsact_program(take_place(index, first));
    if (there != 0 && (there == id_ || there == former_id_)) return take_place(index, first);
  }
  return std::nullopt;
}

std::optional<ClsactPlace> SteerTc::another_versions_filter(unsigned index) const {
  for (const Descriptor& program : pins_.of_other_versions(kTakeProgramPin)) {
    const std::uint32_t id = program_id(program.get());
    for (const bool first : {true, false}) {
      const ClsactPlace place = take_place(index, first);
      if (id != 0 && clsact_program(place) == id) return place;
    }
  }
  return std::nullopt;
}

bool SteerTc::hangs(unsigned index, const Descriptor& link) const {
  if (link) return tcx_interface(link.get()) == index;
  const auto place = own_filter(index);
  return place && clsact_program(*place) == id_;
}

Result<void> SteerTc::attach_filter(const std::string& name, unsigned index) {
  // Pinned first, so that the next keeper, and `cleanup`, know the filter from others'.
  if (auto ok = pins_.pin(program_, kTakeProgramPin); !ok) return ok;
  auto own = own_filter(index);
  if (!own) own = another_versions_filter(index);
  auto filter = attach_clsact(program_, {.index = index, .name = name, .up = true},
                              own.value_or(free_take_place(index)), own.has_value());
  if (!filter) return std::unexpected(filter.error().error);
  attached_[index] = Descriptor();
  return {};
}

Result<void> SteerTc::attach(const std::string& name, unsigned index) {
  if (!tcx_) return attach_filter(name, index);
  auto link = attach_tcx_behind(program_, {.index = index, .name = name, .up = true},
                                pins_.get(guard_link_pin(index)), "interception");
  if (link) {
    if (auto ok = pins_.pin(link->get(), take_link_pin(index)); !ok) return ok;
    attached_[index] = std::move(*link);
    return {};
  }
  if (link.error().code == ENODEV) return {};  // it went between the dump and here
  if (link.error().code != EINVAL) return std::unexpected(link.error().error);
  tcx_ = false;
  return attach_filter(name, index);
}

Result<void> SteerTc::follow(const NodeView& node, const std::vector<std::string>& patterns) {
  const auto names = taken_interfaces(node, patterns);
  std::map<unsigned, std::string> wanted;
  for (const auto& name : names)
    wanted.emplace(node.interfaces.at(name), name);
  for (auto at = attached_.begin(); at != attached_.end();) {
    auto& [index, link] = *at;
    const bool there = hangs(index, link);
    if (there && wanted.contains(index)) {
      ++at;
      continue;
    }
    if (there) detach(index, link);
    pins_.remove(take_link_pin(index));
    at = attached_.erase(at);
  }
  Result<void> outcome;
  for (const auto& [index, name] : wanted) {
    if (attached_.contains(index)) continue;
    if (auto ok = attach(name, index); !ok && outcome) outcome = ok;
  }
  return outcome;
}

void SteerTc::detach(unsigned index, Descriptor& link) const {
  if (link) {
    bpf_link_detach(link.get());
    pins_.remove(take_link_pin(index));
  } else if (const auto place = own_filter(index)) {
    remove_clsact(*place);
  }
}

void SteerTc::leave() {
  for (auto& [index, link] : attached_)
    detach(index, link);
  attached_.clear();
}

void SteerTc::remove() {
  leave();
  for (const auto& path : pinned_take_links(pins_.path()))
    ::unlink(path.c_str());
  pins_.remove(kTakeProgramPin);
}

std::vector<std::string> detach_pinned_steer_tc(const std::string& pin_directory) {
  std::vector<std::string> removed;
  for (const auto& path : pinned_take_links(pin_directory)) {
    const Descriptor link(bpf_obj_get(path.c_str()));
    if (const unsigned index = link ? tcx_interface(link.get()) : 0; index != 0) {
      bpf_link_detach(link.get());
      removed.push_back(message("interception at TC of interface {}", index));
    }
    ::unlink(path.c_str());
  }
  const std::string pinned = pin_directory + "/" + kTakeProgramPin;
  const Descriptor program(bpf_obj_get(pinned.c_str()));
  const std::uint32_t id = program ? program_id(program.get()) : 0;
  const auto node = id != 0 ? read_node_view() : std::unexpected(Error{});
  for (const auto& [name, index] : node ? node->interfaces : std::map<std::string, unsigned>{}) {
    for (const bool first : {true, false}) {
      const ClsactPlace place = take_place(index, first);
      if (clsact_program(place) == id && remove_clsact(place))
        removed.push_back("interception at TC of " + name);
    }
  }
  ::unlink(pinned.c_str());
  return removed;
}

}  // namespace sluice::kernel
