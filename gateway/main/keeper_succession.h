// One keeper after another that is not its child (`run --take-over`): in which order the kernel's
// tables, the gateways and the policy change hands. How the two talk is succession.h.
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

#include "gateway/main/gateway_supervisor.h"
#include "gateway/main/hand_over.h"
#include "gateway/main/kernel_watch.h"
#include "gateway/main/policy_reloader.h"
#include "gateway/main/run_options.h"
#include "gateway/main/succession.h"
#include "kernel/keeper.h"

namespace sluice::control {

// Who answers at the path of --take-over, once it may hand over (waits up to 30 s for that); null:
// nobody. The error is for the log.
std::expected<std::unique_ptr<Predecessor>, std::string> find_predecessor(
    const RunOptions& options);

// One thread. What it is given outlives it.
class KeeperSuccession {
 public:
  struct Parts {
    kernel::Keeper& keeper;
    PolicyReloader& reloader;
    GatewaySupervisor& supervisor;
    KernelWatch& watch;
  };
  struct Hooks {
    std::function<std::string()> busy;  // why nobody may take over now; empty: somebody may
    std::function<HandOver()> hand_over;
    std::function<kernel::Plan()> plan;  // of the policy in force
    std::function<void()> handed_over;   // the rest of this process stops following the node
    std::function<void()> given_up;      // nobody takes over any longer
  };

  // `predecessor`: null, or whose sockets the keeper was opened with.
  KeeperSuccession(boost::asio::io_context& io, const RunOptions& options,
                   std::unique_ptr<Predecessor> predecessor, Parts parts, Hooks hooks);
  ~KeeperSuccession();
  KeeperSuccession(const KeeperSuccession&) = delete;
  KeeperSuccession& operator=(const KeeperSuccession&) = delete;

  // Until what it had is in force here.
  Predecessor* predecessor() const { return predecessor_.get(); }
  // What the predecessor's gateway remembers by now; empty: there is none, or it says nothing.
  std::string remembered();
  // Commits the keeper's prepared plan, once the predecessor leaves the kernel alone.
  std::expected<void, std::string> commit_first();
  // After that: the predecessor may finish, and successors come to this one.
  void serve();

  // Another keeper serves; what is open here finishes.
  bool handed_over() const { return handed_over_; }
  // Another keeper has got the sockets, and does not serve yet.
  bool handing_over() const { return begun_; }
  // Why policy and program stay as they are; empty: they need not.
  std::string why_unchanged() const;

 private:
  void begin();
  void release();
  void give_up(bool released);
  void resume();
  void finish();

  const RunOptions options_;
  std::unique_ptr<Predecessor> predecessor_;
  Parts parts_;
  Hooks hooks_;
  bool begun_ = false;  // somebody is about to take over
  bool handed_over_ = false;
  Succession succession_;
};

}  // namespace sluice::control
