#include "gateway/main/admin_commands.h"

#include <sys/stat.h>
#include <unistd.h>

#include "gateway/main/json_text.h"
#include "gateway/main/kept_sets.h"
#include "gateway/main/kernel_plan.h"
#include "kernel/spared.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::int64_t kMaxBanSeconds = 365LL * 86400;

std::optional<kernel::Prefix> address_of(const json::object& request) {
  const auto prefix = policy::Prefix::parse(text_of(request, "address"));
  if (!prefix) return std::nullopt;
  return to_kernel(*prefix);
}

json::object bad_address(const json::object& request) {
  return admin_error("'" + text_of(request, "address") +
                     "' is not an address or prefix; write 192.0.2.1, 192.0.2.0/24 or "
                     "2001:db8::/64 (host bits zero)");
}

}  // namespace

json::object admin_error(const std::string& message) {
  return {{"ok", false}, {"error", message}};
}

void AdminCommands::handle(const json::object& request, const Respond& respond) const {
  const std::string name = text_of(request, "command");
  const auto it = commands_.find(name);
  if (it == commands_.end()) return respond(admin_error("unknown command '" + name + "'"));
  it->second(request, respond);
}

json::object status_head(const std::string& mode, const PolicyReloader& reloader,
                         std::chrono::steady_clock::time_point started) {
  const auto uptime = std::chrono::steady_clock::now() - started;
  json::array warnings;
  for (const auto& warning : stale_warnings(reloader.current()))
    warnings.push_back(json::string(warning));
  return {{"ok", true},
          {"version", SLUICE_VERSION},
          {"mode", mode},
          {"pid", ::getpid()},
          {"uptime_seconds", std::chrono::duration_cast<std::chrono::seconds>(uptime).count()},
          {"generation", reloader.generation()},
          {"network_namespace", network_namespace()},
          {"warnings", std::move(warnings)},
          {"policy",
           json::object{{"path", reloader.path()}, {"last_reload", reloader.last().to_json()}}}};
}

void merge_gateway_status(json::object& status, const std::string& gateway_json) {
  boost::system::error_code error;
  const json::value parsed = json::parse(gateway_json, error);
  if (error || !parsed.is_object()) return;
  for (const auto& [key, value] : parsed.as_object()) {
    json::value* own = status.if_contains(key);
    if (own == nullptr) {
      status.emplace(key, value);
    } else if (key == "warnings" && own->is_array() && value.is_array()) {
      for (const json::value& warning : value.as_array())
        own->as_array().push_back(warning);
    }
  }
}

void handle_reload(PolicyReloader& reloader, const json::object& request,
                   const AdminCommands::Respond& respond) {
  const json::value* force = request.if_contains("force");
  reloader.reload([respond](const ReloadOutcome& outcome) { respond(outcome.to_json()); },
                  force != nullptr && *force == true);
}

json::object handle_ban(kernel::Keeper& keeper, const json::object& request) {
  const auto source = address_of(request);
  if (!source) return bad_address(request);
  const json::value* seconds = request.if_contains("seconds");
  if (seconds == nullptr || !seconds->is_int64() || seconds->as_int64() < 1 ||
      seconds->as_int64() > kMaxBanSeconds)
    return admin_error("a ban lasts 1 second to 365 days");
  std::string reason = text_of(request, "reason");
  if (reason.empty()) reason = "by hand";
  if (auto banned = keeper.ban(*source, std::chrono::seconds(seconds->as_int64()), reason); !banned)
    return admin_error(banned.error().message);
  return {{"ok", true},
          {"address", from_kernel(*source).to_string()},
          {"seconds", seconds->as_int64()}};
}

json::object handle_unban(kernel::Keeper& keeper, const json::object& request) {
  const auto source = address_of(request);
  if (!source) return bad_address(request);
  const auto removed = keeper.unban(*source);
  if (!removed) return admin_error(removed.error().message);
  return {{"ok", true}, {"address", from_kernel(*source).to_string()}, {"was_banned", *removed}};
}

json::object handle_bans(const kernel::Keeper& keeper) {
  json::array bans;
  for (const auto& ban : keeper.bans()) {
    json::object entry{{"address", from_kernel(ban.source).to_string()},
                       {"seconds_left", ban.left.count()},
                       {"action", "drop"},
                       {"packets", ban.packets},
                       {"bytes", ban.bytes},
                       {"reason", ban.reason}};
    if (kernel::spares(keeper, ban.source)) entry["protected"] = true;
    bans.push_back(std::move(entry));
  }
  return {{"ok", true}, {"bans", std::move(bans)}};
}

std::uint64_t network_namespace() {
  struct stat status{};
  return ::stat("/proc/self/ns/net", &status) == 0 ? status.st_ino : 0;
}

}  // namespace sluice::control
