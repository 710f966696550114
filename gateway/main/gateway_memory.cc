#include "gateway/main/gateway_memory.h"

#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "gateway/control/state_file.h"
#include "gateway/log.h"

namespace sluice::control {
namespace {

using gateway::log_warn;
using namespace std::chrono_literals;

constexpr auto kPause = 1s;
constexpr std::size_t kOfASecond = 1UL << 20;  // bytes
constexpr auto kSavePause = 60s;
constexpr std::size_t kMaxKept = 16UL << 20;  // on disk

}  // namespace

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
  saved_ = Clock::now();
  supervisor_.collect_memory(false, [this](const std::optional<std::string>& bytes) {
    if (!bytes || bytes->size() > kMaxKept) return;
    std::error_code ignored;
    if (bytes->empty()) {
      std::filesystem::remove(path(), ignored);
    } else if (auto saved = gateway::write_state_file(path(), *bytes);
               !saved && !std::exchange(warned_, true)) {
      log_warn("keeper", "cannot keep who was banned how often", {{"reason", saved.error()}});
    }
  });
}

void GatewayMemory::follow() {
  ask_after(kPause);
}

void GatewayMemory::stop() {
  stopped_ = true;
  timer_.cancel();
}

void GatewayMemory::ask_after(Clock::duration pause) {
  if (stopped_) return;
  timer_.expires_after(pause);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    if (Clock::now() - saved_ >= kSavePause) save();
    ask();
  });
}

// One that died while it was asked leaves what it said before.
void GatewayMemory::ask() {
  supervisor_.collect_memory(true, [this](std::optional<std::string> bytes) {
    if (bytes) {
      heard_ = Clock::now();
      bytes_ = bytes->size();
      supervisor_.set_memory(std::move(*bytes));
    }
    ask_after(kPause * static_cast<int>(1 + bytes_ / kOfASecond));
  });
}

boost::json::object GatewayMemory::status() const {
  boost::json::object out{{"bytes", bytes_}};
  if (heard_ != Clock::time_point{})
    out["age_ms"] =
        std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - heard_).count();
  return out;
}

}  // namespace sluice::control
