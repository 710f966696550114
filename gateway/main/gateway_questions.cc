#include "gateway/main/gateway_questions.h"

#include <algorithm>
#include <expected>
#include <string>
#include <utility>

#include "gateway/log.h"
#include "gateway/main/explain_question.h"
#include "gateway/main/express_view.h"
#include "gateway/main/kernel_plan.h"
#include "gateway/main/kernel_view.h"
#include "gateway/main/logged_outcome.h"
#include "gateway/main/named_upstreams.h"
#include "kernel/named_upstreams.h"

namespace sluice::control {

namespace json = boost::json;
using Answer = std::expected<std::string, std::string>;

GatewayQuestions::GatewayQuestions(kernel::Keeper& keeper, PolicyReloader& reloader,
                                   GatewaySupervisor& supervisor, std::function<void()> unbanned)
    : keeper_(keeper),
      reloader_(reloader),
      supervisor_(supervisor),
      unbanned_(std::move(unbanned)),
      orders_(reloader.current().config().state_dir) {}

void GatewayQuestions::add_commands(AdminCommands& commands) {
  commands.add("unban", [this](const json::object& request, const Respond& respond) {
    unban(request, respond);
  });
  commands.add("bans", [this](const json::object&, const Respond& respond) { list_bans(respond); });
  commands.add("explain", [this](const json::object& request, const Respond& respond) {
    explain(request, respond);
  });
  commands.add("routes", [this](const json::object& request, const Respond& respond) {
    ask(request, respond);
  });
  commands.add("upstream", [this](const json::object& request, const Respond& respond) {
    order_endpoint(request, respond);
  });
}

void GatewayQuestions::ask(const json::object& request,
                           const std::function<void(json::object)>& answered) {
  supervisor_.ask(json::serialize(request), [answered](const Answer& answer) {
    if (!answer) return answered(admin_error(answer.error()));
    boost::system::error_code error;
    json::value parsed = json::parse(*answer, error);
    if (error || !parsed.is_object())
      return answered(admin_error("the gateway's answer is not JSON"));
    answered(std::move(parsed.as_object()));
  });
}

void GatewayQuestions::status(json::object head, const Respond& respond) {
  supervisor_.ask("status", [respond, head = std::move(head)](const Answer& answer) mutable {
    if (answer) {
      merge_gateway_status(head, *answer);
    } else {
      head["gateway_error"] = answer.error();
    }
    respond(std::move(head));
  });
}

// The packet's steps are this process's to tell, the rest the gateway's.
void GatewayQuestions::explain(const json::object& question, const Respond& respond) {
  if (const json::value* logged = question.if_contains("logged"); logged && logged->is_object()) {
    json::object rest = question;
    rest.erase("logged");
    return explain(rest, [this, respond, logged = logged->as_object()](json::object answer) {
      respond(with_logged(std::move(answer), logged, reloader_.current().config(), NowBy::live));
    });
  }
  const auto parsed = parse_question(question);
  if (!parsed) return respond(admin_error(parsed.error()));
  if (!parsed->packet && !parsed->source) return ask(question, respond);
  const policy::Snapshot& snapshot = *reloader_.current().snapshot;
  const KernelView view = look_at_kernel(keeper_, snapshot.config());
  policy::Explanation first =
      parsed->source
          ? policy::explain_source(snapshot, *parsed->source, policy::KnownBy::kernel, view.state())
          : policy::explain(snapshot, *parsed->packet, view.state());
  if (parsed->packet) {
    if (auto step = express_step(keeper_, *parsed->packet)) first.steps.push_back(std::move(*step));
  }
  if (!parsed->source && !first.listener) return respond(to_json(snapshot, first));
  ask(parsed->source ? rest_of_source(question) : rest_of(question, snapshot, first),
      [respond, head = to_json(snapshot, first)](const json::object& rest) {
        if (!rest.contains("steps")) return respond(rest);
        respond(joined(head, rest));
      });
}

// Kept, so that the next gateway hears of them too.
void GatewayQuestions::order_endpoint(const json::object& request, const Respond& respond) {
  ask(request, [this, request, respond](json::object answer) {
    const json::value* ok = answer.if_contains("ok");
    if (ok != nullptr && *ok == true) orders_.note(request, reloader_.current().config().state_dir);
    respond(std::move(answer));
  });
}

void GatewayQuestions::repeat_orders() {
  for (const auto& request : orders_.all())
    ask(request, [](const json::object&) {});
}

void GatewayQuestions::follow_names() {
  const policy::Config& config = reloader_.current().config();
  const bool vendors = config.ai && config.ai->bypass;
  const bool peers = has_named_peers(config);
  if (!peers) kernel::protect_named_upstreams(keeper_, {});
  if (!peers && !vendors) return;
  supervisor_.ask("status", [this](const Answer& answer) {
    if (!answer) return;
    const policy::Config& now = reloader_.current().config();
    kernel::protect_named_upstreams(keeper_, hosts_of_named_peers(now, *answer));
    kernel::follow_vendors(keeper_, hosts_of_vendors(now, *answer));
  });
}

// Of IPv6 the prefix is the ban's, as long as it is no more than a host's own.
void GatewayQuestions::forget(const std::vector<policy::IpAddress>& addresses) {
  constexpr std::uint8_t kHost6 = 64;
  for (const auto& ban : keeper_.bans()) {
    const policy::Prefix source = from_kernel(ban.source);
    const bool narrow = source.length >= (source.is_v4() ? 32 : kHost6);
    const bool gone = std::ranges::any_of(
        addresses, [&](const policy::IpAddress& address) { return source.contains(address); });
    if (!narrow || !gone) continue;
    gateway::log_info("keeper", "a pod has gone, and its ban with it",
                      {{"source", source.to_string()}});
    (void)keeper_.unban(ban.source);
  }
  for (const policy::IpAddress& address : addresses)
    ask({{"command", "unban"}, {"address", address.to_string()}, {"forget", true}},
        [](const json::object&) {});
}

// The kernel's, and those that the gateway enforces.
void GatewayQuestions::list_bans(const Respond& respond) {
  ask({{"command", "bans"}},
      [respond, head = handle_bans(keeper_)](const json::object& answer) mutable {
        const json::value* own = answer.if_contains("bans");
        if (own != nullptr && own->is_array()) {
          for (const auto& ban : own->as_array())
            head["bans"].as_array().push_back(ban);
        } else {
          head["gateway_error"] = answer.contains("error") ? answer.at("error") : "no answer";
        }
        respond(std::move(head));
      });
}

void GatewayQuestions::unban(const json::object& request, const Respond& respond) {
  json::object head = handle_unban(keeper_, request);
  if (head["ok"] != true) return respond(std::move(head));
  ask(request, [this, respond, head = std::move(head)](const json::object& answer) mutable {
    const json::value* was = answer.if_contains("was_banned");
    const bool here = was != nullptr && *was == true;
    if (here) head["was_banned"] = true;
    respond(std::move(head));
    if (here) unbanned_();
  });
}

}  // namespace sluice::control
