// What the admin socket answers in both modes, and the JSON that the command line and scripts read.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>

#include <boost/json.hpp>

#include "gateway/control/admin_server.h"
#include "gateway/main/policy_reloader.h"
#include "kernel/keeper.h"

namespace sluice::control {

class AdminCommands {
 public:
  using Respond = gateway::AdminServer::Respond;
  using Command = std::function<void(const boost::json::object& request, Respond respond)>;

  void add(std::string name, Command command) {
    commands_.insert_or_assign(std::move(name), std::move(command));
  }
  void handle(const boost::json::object& request, const Respond& respond) const;

 private:
  std::map<std::string, Command, std::less<>> commands_;
};

boost::json::object admin_error(const std::string& message);

// The first part of `status`: version, mode, generation, last reload. The gateway's own status is
// merged into it.
boost::json::object status_head(const std::string& mode, const PolicyReloader& reloader,
                                std::chrono::steady_clock::time_point started);
void merge_gateway_status(boost::json::object& status, const std::string& gateway_json);

// {"force"?: true}: even where it cuts the operator off.
void handle_reload(PolicyReloader& reloader, const boost::json::object& request,
                   const AdminCommands::Respond& respond);

// `set`, `action` (add, delete, list), `addresses`, `seconds`, `reason`. Answers when a change is
// in force.
void handle_set(PolicyReloader& reloader, const boost::json::object& request,
                const AdminCommands::Respond& respond);

// On a kernel::Keeper, whether a process owns it or the command line opened the pins itself.
boost::json::object handle_ban(kernel::Keeper& keeper, const boost::json::object& request);
boost::json::object handle_unban(kernel::Keeper& keeper, const boost::json::object& request);
boost::json::object handle_bans(const kernel::Keeper& keeper);

// The inode of this process's network namespace: two processes with the same one share what is in
// the kernel.
std::uint64_t network_namespace();

}  // namespace sluice::control
