#include "gateway/main/run_commands.h"

#include <unistd.h>

#include "gateway/main/drain_deadline.h"
#include "gateway/main/policy_commands.h"

namespace sluice::control {

namespace json = boost::json;
using Respond = AdminCommands::Respond;

void add_run_commands(AdminCommands& commands, const RunControl& control) {
  control.policy_apply.add_commands(commands);
  PolicyReloader& reloader = control.reloader;
  commands.add("set", [&reloader](const json::object& request, const Respond& respond) {
    handle_set(reloader, request, respond);
  });
  commands.add("reload", [&reloader, reopen = control.reopen_logs](const json::object& request,
                                                                   const Respond& respond) {
    reopen();  // as SIGHUP does
    handle_reload(reloader, request, respond);
  });
  commands.add("plan", [&reloader, context = control.plan_context](const json::object& request,
                                                                   const Respond& respond) {
    respond(
        handle_plan(reloader.current(), reloader.path(), reloader.additions(), request, context()));
  });
  commands.add("drain",
               [&reloader, stop = control.stop](const json::object&, const Respond& respond) {
                 respond({{"ok", true},
                          {"pid", ::getpid()},
                          {"deadline_ms", drain_deadline(reloader.current().config()).count()}});
                 stop();
               });
  commands.add("drained", [&waiters = control.drain_waiters](const json::object&, Respond respond) {
    waiters.add(std::move(respond));
  });
}

}  // namespace sluice::control
