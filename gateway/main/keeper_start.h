// What a keeper process needs before it can be one: whom it follows, and the kernel's side opened.
#pragma once

#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "gateway/main/hand_over.h"
#include "gateway/main/run_options.h"
#include "gateway/main/succession.h"
#include "kernel/keeper.h"

namespace sluice::control {

struct KeeperStart {
  std::unique_ptr<kernel::Keeper> keeper{};
  std::unique_ptr<Predecessor> predecessor{};  // null: follows nobody, or by `sluice upgrade`
  bool mounted_bpffs = false;
};

// `from`: of `sluice upgrade`; its lock is the keeper's from then on. Waits up to 30 s for a
// predecessor that is busy.
std::expected<KeeperStart, std::string> open_keeper(const RunOptions& options,
                                                    std::optional<HandOver>& from);

}  // namespace sluice::control
