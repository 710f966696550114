#include "kernel/guard_attach.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <net/if.h>
#include <unistd.h>

#include "kernel/guard_clsact.h"
#include "kernel/guard_tcx.h"
#include "kernel/guard_xdp.h"
#include "kernel/message.h"

namespace sluice::kernel {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLinkPrefix = "guard_link_";

std::string pin_name(unsigned index, GuardEntry entry) {
  return message("{}{}_{}", kLinkPrefix, GuardAttachment::entry_name(entry), index);
}

std::string name_of(unsigned index) {
  std::array<char, IF_NAMESIZE> name{};
  return ::if_indextoname(index, name.data()) != nullptr ? name.data()
                                                         : message("interface {}", index);
}

unsigned interface_of(int link, GuardEntry entry) {
  return entry == GuardEntry::xdp ? xdp_interface(link) : tcx_interface(link);
}

struct PinnedLink {
  fs::path path;
  GuardEntry entry;
};

std::vector<PinnedLink> pinned_links(const std::string& directory) {
  std::vector<PinnedLink> out;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(directory, error)) {
    const std::string name = file.path().filename().string();
    for (const GuardEntry entry : kGuardEntries) {
      if (name.starts_with(std::string(kLinkPrefix) + GuardAttachment::entry_name(entry) + "_"))
        out.push_back({file.path(), entry});
    }
  }
  return out;
}

AttachError plain(const Error& error) {
  return {0, error};
}

}  // namespace

const char* GuardAttachment::entry_name(GuardEntry entry) {
  switch (entry) {
    case GuardEntry::tc_egress:
      return "egress";
    case GuardEntry::xdp:
      return "xdp";
    case GuardEntry::tc_ingress:
      break;
  }
  return "ingress";
}

Result<GuardAttachment> GuardAttachment::open(const PinDirectory& pins, GuardAttach how,
                                              const GuardMaps& maps) {
  GuardAttachment attachment(pins, how, maps);
  if (auto ok = attachment.adopt_links(); !ok) return std::unexpected(ok.error());
  if (auto ok = attachment.adopt_filters(); !ok) return std::unexpected(ok.error());
  // A kernel that refuses the program says so here, not at the first policy.
  if (auto program = attachment.programs_.get(GuardEntry::tc_ingress); !program)
    return std::unexpected(program.error());
  return attachment;
}

Result<void> GuardAttachment::load_for(GuardHook hook, bool egress) {
  if (hook != GuardHook::tc) {
    if (auto program = programs_.get(GuardEntry::xdp); !program)
      return std::unexpected(program.error());
  }
  if (!egress) return {};
  if (auto program = programs_.get(GuardEntry::tc_egress); !program)
    return std::unexpected(program.error());
  return {};
}

Result<void> GuardAttachment::adopt_links() {
  for (const auto& [path, entry] : pinned_links(pins_->path())) {
    Descriptor link(bpf_obj_get(path.c_str()));
    const unsigned index = link ? interface_of(link.get(), entry) : 0;
    if (index == 0 || path.filename().string() != pin_name(index, entry)) {
      ::unlink(path.c_str());  // a shell: the interface is gone
      continue;
    }
    auto program = programs_.get(entry);
    if (!program) return std::unexpected(program.error());
    if (bpf_link_update(link.get(), *program, nullptr) != 0) {
      ::unlink(path.c_str());
      continue;
    }
    Attached found;
    if (entry == GuardEntry::xdp) {
      found.generic = xdp_is_generic(index);
    } else {
      found.first = tcx_position(link.get(), index, entry);
    }
    found.link = std::move(link);
    attached_[{index, entry}] = std::move(found);
  }
  return {};
}

Result<void> GuardAttachment::adopt_filters() {
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  for (const Interface& where : network->interfaces) {
    for (const GuardEntry entry : {GuardEntry::tc_ingress, GuardEntry::tc_egress}) {
      for (const bool first : {true, false}) {
        const ClsactPlace place{where.index, entry, first};
        if (attached_.contains({where.index, entry}) ||
            !programs_.is_ours(entry, clsact_program(place)))
          continue;
        auto program = programs_.get(entry);
        if (!program) return std::unexpected(program.error());
        if (attach_clsact(*program, where, place, true))
          attached_[{where.index, entry}] = {Descriptor(), first, false};
      }
    }
  }
  return {};
}

std::expected<GuardAttachment::Attached, AttachError> GuardAttachment::attach_tc(
    int program, const Interface& where, GuardEntry entry, bool first) {
  if (how_ != GuardAttach::clsact) {
    auto link = attach_tcx(program, where, entry, first);
    if (link) return Attached{std::move(*link), first, false};
    if (how_ == GuardAttach::tcx || link.error().code != EINVAL)
      return std::unexpected(link.error());
  }
  const ClsactPlace place{where.index, entry, first};
  const std::uint32_t there = clsact_program(place);
  const bool replaces = programs_.is_ours(entry, there) || programs_.is_another_versions(entry, there);
  auto filter = attach_clsact(program, where, place, replaces);
  if (!filter) return std::unexpected(filter.error());
  return Attached{Descriptor(), first, false};
}

std::expected<GuardAttachment::Attached, AttachError> GuardAttachment::attach_one(
    const Interface& where, GuardEntry entry, const GuardSites& sites) {
  const auto program = programs_.get(entry);
  if (!program) return std::unexpected(plain(program.error()));
  std::expected<Attached, AttachError> made;
  if (entry == GuardEntry::xdp) {
    const bool generic = sites.hook == GuardHook::xdp_generic;
    auto link = attach_xdp(*program, where, generic);
    if (!link) return std::unexpected(link.error());
    made = Attached{std::move(*link), std::nullopt, generic};
  } else {
    made = attach_tc(*program, where, entry, sites.first);
  }
  if (!made || !made->link) return made;
  if (auto ok = pins_->pin(made->link.get(), pin_name(where.index, entry)); !ok)
    return std::unexpected(plain(ok.error()));
  return made;
}

bool GuardAttachment::fits(const Attached& attached, GuardEntry entry,
                           const GuardSites& sites) const {
  if (entry == GuardEntry::xdp) return attached.generic == (sites.hook == GuardHook::xdp_generic);
  return !attached.first || *attached.first == sites.first;
}

// TC: another instance of the program goes to the new place before the one at the old place ends.
// XDP: one interface has one mode at a time, so for some microseconds it has none; when the new one
// is refused, the old one comes back.
std::expected<GuardAttachment::Attached, AttachError> GuardAttachment::replace(
    const Interface& where, GuardEntry entry, const GuardSites& sites) {
  Attached& old = attached_.at({where.index, entry});
  if (entry == GuardEntry::xdp) {
    GuardSites before = sites;
    before.hook = old.generic ? GuardHook::xdp_generic : GuardHook::xdp;
    detach({where.index, entry}, old);
    auto made = attach_one(where, entry, sites);
    if (!made) {
      if (auto back = attach_one(where, entry, before)) old = std::move(*back);
    }
    return made;
  }
  auto program = programs_.another(entry);
  if (!program) return std::unexpected(plain(program.error()));
  // A filter is known as ours by its program, so it must be the one that is pinned.
  const auto pinned = programs_.get(entry);
  if (!pinned) return std::unexpected(plain(pinned.error()));
  auto made = attach_tc(old.link ? program->get() : *pinned, where, entry, sites.first);
  if (!made) return made;
  if (made->link) {
    if (auto ok = pins_->pin(made->link.get(), pin_name(where.index, entry)); !ok)
      return std::unexpected(plain(ok.error()));
    bpf_link_detach(old.link.get());
  } else {
    remove_clsact({where.index, entry, !sites.first});
  }
  return made;
}

// Where every frame begins with an Ethernet header the program reads it where it lies. XDP's do
// anyhow. Of an interface that is not among `sites` nothing is known.
void GuardAttachment::note_frames(const GuardSites& sites) const {
  const auto framed = [](const Interface& where) { return where.ethernet || where.loopback; };
  const auto tc = [&](const std::vector<Interface>& interfaces, GuardEntry entry) {
    return std::ranges::all_of(interfaces, framed) &&
           std::ranges::all_of(attached_, [&](const auto& one) {
             return one.first.second != entry ||
                    std::ranges::find(interfaces, one.first.first, &Interface::index) !=
                        interfaces.end();
           });
  };
  const bool all =
      tc(sites.ingress, GuardEntry::tc_ingress) && tc(sites.egress, GuardEntry::tc_egress);
  std::atomic_ref(maps_->state()->frames).store(all ? 1 : 0, std::memory_order_relaxed);
}

Result<void> GuardAttachment::attach(const GuardSites& sites, bool all_or_none) {
  note_frames(sites);  // first: a program that begins to hang somewhere must know
  std::vector<Key> added;
  Result<void> outcome;
  const auto all = [&](const std::vector<Interface>& interfaces, GuardEntry entry) {
    for (const Interface& where : interfaces) {
      const Key key{where.index, entry};
      const auto there = attached_.find(key);
      if (there != attached_.end() && fits(there->second, entry, sites)) continue;
      const bool fresh = there == attached_.end();
      auto made = fresh ? attach_one(where, entry, sites) : replace(where, entry, sites);
      if (made) {
        attached_[key] = std::move(*made);
        if (fresh) added.push_back(key);
        continue;
      }
      // An interface that went between the dump and here is no error.
      if (made.error().code == ENODEV) continue;
      if (outcome) outcome = std::unexpected(made.error().error);
      if (all_or_none) return;
    }
  };
  all(sites.ingress, sites.hook == GuardHook::tc ? GuardEntry::tc_ingress : GuardEntry::xdp);
  if (outcome || !all_or_none) all(sites.egress, GuardEntry::tc_egress);
  if (!outcome && all_or_none) {
    for (const Key& key : added)
      forget(key);
  }
  return outcome;
}

void GuardAttachment::detach(const Key& key, Attached& attached) const {
  const auto [index, entry] = key;
  if (attached.link) {
    bpf_link_detach(attached.link.get());
    attached.link = Descriptor();
    pins_->remove(pin_name(index, entry));
    return;
  }
  const ClsactPlace place{index, entry, attached.first.value_or(true)};
  if (programs_.is_ours(entry, clsact_program(place))) remove_clsact(place);
}

void GuardAttachment::forget(const Key& key) {
  const auto at = attached_.find(key);
  if (at == attached_.end()) return;
  detach(key, at->second);
  attached_.erase(at);
}

void GuardAttachment::detach_others(const GuardSites& sites) {
  const auto wanted = [&](const Key& key) {
    const bool egress = key.second == GuardEntry::tc_egress;
    const bool xdp = key.second == GuardEntry::xdp;
    if (!egress && xdp == (sites.hook == GuardHook::tc)) return false;
    const auto& named = egress ? sites.egress : sites.ingress;
    return std::ranges::find(named, key.first, &Interface::index) != named.end();
  };
  std::vector<Key> others;
  for (const auto& [key, attached] : attached_) {
    if (!wanted(key)) others.push_back(key);
  }
  for (const Key& key : others)
    forget(key);
  note_frames(sites);
}

bool GuardAttachment::hangs(const Key& key, const Attached& attached) const {
  const auto& [index, entry] = key;
  if (attached.link) return interface_of(attached.link.get(), entry) == index;
  return programs_.is_current(entry, clsact_program({index, entry, attached.first.value_or(true)}));
}

void GuardAttachment::forget_severed() {
  for (auto at = attached_.begin(); at != attached_.end();) {
    if (hangs(at->first, at->second)) {
      ++at;
      continue;
    }
    pins_->remove(pin_name(at->first.first, at->first.second));
    at = attached_.erase(at);
  }
}

std::vector<std::string> GuardAttachment::remove() {
  std::vector<std::string> removed;
  while (!attached_.empty()) {
    const Key key = attached_.begin()->first;
    removed.push_back("guard of " + name_of(key.first));
    forget(key);
  }
  programs_.remove_pins();
  return removed;
}

std::vector<std::pair<unsigned, GuardEntry>> GuardAttachment::list() const {
  std::vector<Key> out;
  for (const auto& [key, attached] : attached_)
    out.push_back(key);
  return out;
}

std::string guard_link_pin(unsigned interface_index) {
  return pin_name(interface_index, GuardEntry::tc_ingress);
}

std::vector<std::string> detach_pinned_guard(const std::string& pin_directory) {
  std::vector<std::string> removed;
  for (const auto& [path, entry] : pinned_links(pin_directory)) {
    const Descriptor link(bpf_obj_get(path.c_str()));
    if (const unsigned index = link ? interface_of(link.get(), entry) : 0; index != 0) {
      bpf_link_detach(link.get());
      removed.push_back("guard of " + name_of(index));
    }
    ::unlink(path.c_str());
  }
  auto network = read_node_network();
  for (const GuardEntry entry : kGuardEntries) {
    const std::string pinned = pin_directory + "/" + GuardPrograms::pin_name(entry);
    const Descriptor program(bpf_obj_get(pinned.c_str()));
    const std::uint32_t id = program ? program_id(program.get()) : 0;
    for (const Interface& where : network&& id != 0 && entry != GuardEntry::xdp
                                      ? network->interfaces
                                      : std::vector<Interface>{}) {
      for (const bool first : {true, false}) {
        const ClsactPlace place{where.index, entry, first};
        if (clsact_program(place) == id && remove_clsact(place))
          removed.push_back("guard of " + where.name);
      }
    }
    ::unlink(pinned.c_str());
  }
  return removed;
}

}  // namespace sluice::kernel
