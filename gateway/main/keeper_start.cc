#include "gateway/main/keeper_start.h"

#include <utility>

#include "gateway/log.h"
#include "gateway/main/keeper_succession.h"
#include "kernel/pins.h"

namespace sluice::control {

std::expected<KeeperStart, std::string> open_keeper(const RunOptions& options,
                                                    std::optional<HandOver>& from) {
  KeeperStart out{.mounted_bpffs = !kernel::on_bpf_file_system(options.pin_root)};
  kernel::KeeperOptions kept{.pin_root = options.pin_root};
  if (from) {
    kept.before = from->keeper;
  } else {
    auto predecessor = find_predecessor(options);
    if (!predecessor) return std::unexpected(predecessor.error());
    out.predecessor = std::move(*predecessor);
  }
  if (out.predecessor) kept.before = out.predecessor->left().keeper;
  kept.beside = out.predecessor != nullptr;
  auto keeper = kernel::Keeper::open(kept);
  if (!keeper) return std::unexpected(keeper.error().message);
  out.keeper = std::move(*keeper);
  if (out.predecessor) out.predecessor->close_duplicated();
  // From here on the keeper's own: pins of another version can be taken away once ours are in
  // force.
  if (from) kernel::protocol::OwnedFd(std::exchange(from->keeper.lock, -1)).reset();
  if (out.mounted_bpffs)
    gateway::log_warn("keeper",
                      "no BPF file system was mounted; mounted one, which the node should do",
                      {{"for", options.pin_root}});
  return out;
}

}  // namespace sluice::control
