// Admin commands that the keeper answers with the gateway's help: each knows a part.
#pragma once

#include <functional>
#include <vector>

#include <boost/json.hpp>

#include "gateway/main/admin_commands.h"
#include "gateway/main/endpoint_orders.h"
#include "gateway/main/gateway_supervisor.h"
#include "gateway/main/policy_reloader.h"
#include "kernel/keeper.h"

namespace sluice::control {

class GatewayQuestions {
 public:
  using Respond = AdminCommands::Respond;

  // All of it must outlive this. `unbanned`: somebody whom the gateway itself had banned.
  GatewayQuestions(kernel::Keeper& keeper, PolicyReloader& reloader, GatewaySupervisor& supervisor,
                   std::function<void()> unbanned);

  void add_commands(AdminCommands& commands);
  // `answered` gets the gateway's answer, or an error in the same shape.
  void ask(const boost::json::object& request,
           const std::function<void(boost::json::object)>& answered);
  // What operators ordered for endpoints, for a gateway that has just started.
  void repeat_orders();
  // The kernel spares upstreams and Redis; those that are known by name are where the gateway found
  // them.
  void follow_names();
  // Of addresses that nobody has any more, or somebody else: their bans end.
  void forget(const std::vector<policy::IpAddress>& addresses);
  // `head` and the gateway's own status.
  void status(boost::json::object head, const Respond& respond);

 private:
  void explain(const boost::json::object& question, const Respond& respond);
  void order_endpoint(const boost::json::object& request, const Respond& respond);
  void list_bans(const Respond& respond);
  void unban(const boost::json::object& request, const Respond& respond);

  kernel::Keeper& keeper_;
  PolicyReloader& reloader_;
  GatewaySupervisor& supervisor_;
  std::function<void()> unbanned_;
  EndpointOrders orders_;
};

}  // namespace sluice::control
