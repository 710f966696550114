#include "kernel/own_programs.h"

#include <bpf/bpf.h>
#include <filesystem>
#include <linux/bpf.h>

#include "kernel/guard_tcx.h"
#include "kernel/pins.h"

namespace sluice::kernel {
namespace {

namespace fs = std::filesystem;

std::uint32_t program_of_link(int link) {
  bpf_link_info info{};
  __u32 length = sizeof(info);
  return bpf_obj_get_info_by_fd(link, &info, &length) == 0 ? info.prog_id : 0;
}

// 0: a map, or gone.
std::uint32_t pinned_program(const fs::path& pin) {
  const std::string name = pin.filename();
  const bool link = name.find("link") != std::string::npos;
  if (!link && name.find("program") == std::string::npos) return 0;
  const Descriptor fd(bpf_obj_get(pin.c_str()));
  if (!fd) return 0;
  return link ? program_of_link(fd.get()) : program_id(fd.get());
}

}  // namespace

OwnPrograms OwnPrograms::read(const std::string& pin_root) {
  OwnPrograms own;
  std::error_code error;
  for (const auto& version : fs::directory_iterator(pin_root, error)) {
    const fs::path pins = version.path() / std::to_string(netns_inode());
    for (const auto& pin : fs::directory_iterator(pins, error)) {
      if (const std::uint32_t id = pinned_program(pin.path()); id != 0) own.ids_.insert(id);
    }
  }
  return own;
}

bool OwnPrograms::have(const TcProgram& program) const {
  return ids_.contains(program.id) || program.name.starts_with("guard_") ||
         program.name.starts_with("sluice_");
}

}  // namespace sluice::kernel
