#include "gateway/main/gateway_memory.h"

#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "gateway/control/state_file.h"
#include "gateway/log.h"

namespace sluice::control {

using gateway::log_warn;

namespace {
constexpr std::chrono::seconds kPause{60};
constexpr std::size_t kMaxKept = 16UL << 20;
}  // namespace

GatewayMemory::GatewayMemory(GatewaySupervisor& supervisor, std::function<std::string()> state_dir)
    : supervisor_(supervisor), state_dir_(std::move(state_dir)) {}

std::string GatewayMemory::path() const {
  return (std::filesystem::path(state_dir_()) / "gateway-memory").string();
}

void GatewayMemory::load() {
  auto kept = gateway::read_state_file(path(), kMaxKept);
  if (!kept) {
    log_warn("keeper", "forgets who was banned how often", {{"reason", kept.error()}});
  } else if (*kept) {
    supervisor_.set_memory(std::move(**kept));
  }
}

void GatewayMemory::save() {
  saved_ = std::chrono::steady_clock::now();
  supervisor_.collect_memory(false, [this](std::optional<std::string> bytes) {
    if (bytes && bytes->size() <= kMaxKept) write(std::move(*bytes));
  });
}

void GatewayMemory::save_if_due() {
  if (std::chrono::steady_clock::now() - saved_ >= kPause) save();
}

void GatewayMemory::write(std::string bytes) {
  if (bytes.empty()) {
    std::error_code ignored;
    std::filesystem::remove(path(), ignored);
  } else if (auto written = gateway::write_state_file(path(), bytes);
             !written && !std::exchange(warned_, true)) {
    log_warn("keeper", "cannot keep who was banned how often", {{"reason", written.error()}});
  }
  supervisor_.set_memory(std::move(bytes));
}

}  // namespace sluice::control
