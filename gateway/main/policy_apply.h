// `sluice apply`, `confirm` and `rollback`: a policy that comes by the admin socket instead of by
// the file.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>

#include "gateway/control/policy_writer.h"
#include "gateway/main/admin_commands.h"
#include "gateway/main/policy_plan.h"
#include "gateway/main/policy_reloader.h"

namespace sluice::control {

inline constexpr const char* kDriftMetric = "sluice_policy_differs_from_disk";
inline constexpr const char* kDriftHelp =
    "1 while the policy in force is not the one that lies on disk.";

// One thread. `reloader` outlives it.
class PolicyApply {
 public:
  using Respond = AdminCommands::Respond;
  struct Hooks {
    std::function<PlanContext()> context;  // for the lock-out check
    // The kernel goes back by itself at this time, with nobody alive (now: at once); nullopt: no
    // more. False: it has gone back already.
    std::function<bool(std::optional<std::chrono::steady_clock::time_point>)> revert_at;
  };

  PolicyApply(boost::asio::io_context& io, PolicyReloader& reloader, Hooks hooks);

  // Adds apply, confirm, history and rollback.
  void add_commands(AdminCommands& commands);
  // What `status` says of it: {"unconfirmed_seconds"?, "differs_from_disk"}.
  void add_status(boost::json::object& policy) const;
  bool differs_from_disk() const;
  bool on_trial() const { return pending_.has_value(); }
  // Of what is being put in force: when the kernel is to go back by itself. Nothing, if it need
  // not.
  std::optional<std::chrono::steady_clock::time_point> next_deadline() const;

 private:
  struct Pending {
    gateway::PolicyWriter writer;
    std::vector<policy::PolicyFile> before;  // in force until then; with the texts of its sets
    std::chrono::steady_clock::time_point until;
    bool ending = false;  // too late for a confirmation
  };

  // Of sets: an operator who brings a policy can mend them as well, and one who goes back is in a
  // hurry.
  enum class BadFiles : std::uint8_t { refused, kept };
  void apply(const boost::json::object& request, const std::vector<policy::PolicyFile>& files,
             BadFiles bad, const Respond& respond);
  void applied(const ReloadOutcome& outcome, std::optional<std::chrono::seconds> confirm,
               gateway::PolicyWriter writer, std::vector<policy::PolicyFile> before,
               const Respond& respond);
  void wait_for_confirmation();
  boost::json::object confirm();
  void go_back(const std::function<void(const ReloadOutcome&)>& done);
  boost::json::object history() const;
  void rollback(const boost::json::object& request, const Respond& respond);

  PolicyReloader& reloader_;
  Hooks hooks_;
  boost::asio::steady_timer timer_;
  std::optional<Pending> pending_;
  bool applying_ = false;
  std::optional<std::chrono::seconds> wait_;  // of what is being put on trial
};

}  // namespace sluice::control
