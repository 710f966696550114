// `sluice plan`: what a policy would change in the one that runs, before it does.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "gateway/main/compiled_policy.h"
#include "kernel/keeper.h"

namespace sluice::control {

// One end of a connection of the operator's own, as `ssh` has it in SSH_CONNECTION.
struct OperatorConnection {
  policy::SocketAddress client;
  policy::SocketAddress server;
  bool operator==(const OperatorConnection&) const = default;
};

struct PlanContext {
  const kernel::Keeper* keeper = nullptr;  // null: nothing of the kernel is known
  std::uint32_t workers = 1;
  std::vector<OperatorConnection> operators{};  // beside those to port 22 that are open
};

// Connections by which somebody has given commands, so that one over a port of its own is known,
// too. One thread.
class KnownOperators {
 public:
  void note(const boost::json::object& request);      // {"ssh"?: SSH_CONNECTION}
  std::vector<OperatorConnection> connected() const;  // those still open on this node

 private:
  static constexpr std::size_t kMost = 16;
  std::vector<OperatorConnection> known_;  // the latest last
};

// {"ok", "changes": [{"kind", "section", "name", "layer", "before"?, "after"?}],
//  "warnings": [diagnostics], "lock_out": [text, also of a port of the host's own],
//  "connections"?: {"open", "changed", "drained", "reset", "dropped"},
//  "bans"?: {"running", "spared": [source]}, "limits": [name]}
boost::json::object make_plan(const CompiledPolicy& running, const CompiledPolicy& next,
                              const PlanContext& context);

// Why `next` would cut connections of the operator's that `running` lets be; empty: it would not.
std::vector<std::string> lock_out(const CompiledPolicy& running, const CompiledPolicy& next,
                                  const PlanContext& context);

// Whether one of `prefixes` covers an end of an operator's connection.
bool names_operator(const std::vector<policy::Prefix>& prefixes, const PlanContext& context);

// Of {"address", "force"?}: which open connection of an operator that ban would cut, said as an
// error; empty: none, or it is forced.
std::string operator_cut_by_ban(const boost::json::object& request, const CompiledPolicy& running,
                                const PlanContext& context);
// The same where no policy is known: any that comes from there.
std::string operator_named_by_ban(const boost::json::object& request, const PlanContext& context);

// "CLIENT CLIENT_PORT SERVER SERVER_PORT", as the environment has it.
std::optional<OperatorConnection> parse_ssh_connection(const std::string& text);

}  // namespace sluice::control
