#include "gateway/main/keeper_succession.h"

#include <chrono>
#include <sys/file.h>
#include <thread>
#include <utility>

#include "gateway/log.h"
#include "gateway/main/service_manager.h"

namespace sluice::control {
namespace {

using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;
using namespace std::chrono_literals;

constexpr int kFindTries = 30;
constexpr auto kFindPause = 1s;
constexpr const char* kHandedOver = "another sluice has taken over";
constexpr const char* kHandingOver = "another sluice is about to take over; try again";

// Between releasing and taking over nobody has the lock: a successor of another ABI version takes
// the pins of this one away.
void lock_pins(const kernel::Keeper& keeper, bool lock) {
  ::flock(keeper.hand_over().lock, (lock ? LOCK_EX : LOCK_UN) | LOCK_NB);
}

}  // namespace

std::expected<std::unique_ptr<Predecessor>, std::string> find_predecessor(
    const RunOptions& options) {
  if (options.take_over_path.empty()) return nullptr;
  for (int tries = 1;; ++tries) {
    auto found = Predecessor::ask(options.take_over_path);
    if (found && *found && bears_mark_of_hand_over(options.socket_path))
      return std::unexpected(
          "this one has handed over to another sluice, which serves, and does not take over from "
          "it again");
    if (found || tries == kFindTries) {
      if (found && !*found) remove_mark_of_hand_over(options.socket_path);
      return found;
    }
    log_warn("keeper", "cannot take over yet", {{"reason", found.error()}});
    std::this_thread::sleep_for(kFindPause);
  }
}

KeeperSuccession::KeeperSuccession(boost::asio::io_context& io, const RunOptions& options,
                                   std::unique_ptr<Predecessor> predecessor, Parts parts,
                                   Hooks hooks)
    : options_(options),
      predecessor_(std::move(predecessor)),
      parts_(parts),
      hooks_(std::move(hooks)),
      succession_(io, {.busy = hooks_.busy,
                       .hand_over = hooks_.hand_over,
                       .memory =
                           [this](std::function<void(std::string)> carried) {
                             parts_.supervisor.collect_memory(true, [carried](const auto& memory) {
                               carried(memory.value_or(""));
                             });
                           },
                       .begin = [this] { begin(); },
                       .release = [this] { release(); },
                       .give_up = [this](bool released) { give_up(released); },
                       .done = [this] { finish(); }}) {}

// Who was told to stop may take over again, other than who was killed and started again.
KeeperSuccession::~KeeperSuccession() {
  if (handed_over_) remove_mark_of_hand_over(options_.socket_path);
}

std::string KeeperSuccession::why_unchanged() const {
  if (handed_over_) return kHandedOver;
  return begun_ ? kHandingOver : "";
}

// --- following -----------------------------------------------------------------------------------

std::string KeeperSuccession::remembered() {
  return predecessor_ ? predecessor_->memory() : std::string();
}

// Prepared again: until it released the kernel, the predecessor may have followed the node's
// addresses into the same slot.
std::expected<void, std::string> KeeperSuccession::commit_first() {
  if (predecessor_) {
    if (auto released = predecessor_->release(); !released) return released;
    lock_pins(parts_.keeper, true);
    if (auto prepared = parts_.keeper.prepare(hooks_.plan()); !prepared)
      return std::unexpected(prepared.error().message);
  }
  if (auto committed = parts_.keeper.commit(); !committed)
    return std::unexpected(committed.error().message);
  return {};
}

void KeeperSuccession::serve() {
  if (predecessor_) {
    predecessor_->done();
    parts_.keeper.remove_other_versions();
    log_info("keeper", "took over from another sluice",
             {{"from", predecessor_->left().from_version}, {"to", SLUICE_VERSION}});
    predecessor_.reset();
  }
  if (options_.take_over_path.empty()) return;
  if (auto listens = succession_.listen(options_.take_over_path); !listens)
    log_error("keeper", "nobody will be able to take over from this one",
              {{"reason", listens.error()}});
}

// --- being followed ------------------------------------------------------------------------------

// Sockets that a reload opened now would not be handed over.
void KeeperSuccession::begin() {
  begun_ = true;
  parts_.reloader.hold(kHandingOver);
}

void KeeperSuccession::release() {
  parts_.watch.pause(true);
  lock_pins(parts_.keeper, false);
}

void KeeperSuccession::give_up(bool released) {
  begun_ = false;
  if (released) resume();
  parts_.reloader.release();
  hooks_.given_up();
}

// What the successor may have put in force before it ended is replaced by what runs here.
void KeeperSuccession::resume() {
  lock_pins(parts_.keeper, true);
  auto again = parts_.keeper.prepare(hooks_.plan());
  if (again) again = parts_.keeper.commit();
  if (!again) log_error("keeper", again.error().message);
  parts_.watch.pause(false);
  parts_.keeper.remove_other_versions();  // the successor's, which what hangs here was known by
}

// This process stays until it is told to stop: whoever looks after containers would start one that
// ended again.
void KeeperSuccession::finish() {
  handed_over_ = true;
  begun_ = false;
  parts_.reloader.hold(kHandedOver);
  parts_.watch.stop();
  parts_.supervisor.retire_serving();
  parts_.keeper.retire();
  hooks_.handed_over();
  leave_mark_of_hand_over(options_.socket_path);
  log_info("keeper", "another sluice has taken over; open connections may finish");
  tell_service_manager("STATUS=another sluice has taken over");
}

}  // namespace sluice::control
