// `set`: members of named sets at run time.
#include <algorithm>
#include <map>

#include "gateway/main/admin_commands.h"
#include "gateway/main/json_text.h"
#include "policy/pods.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using gateway::SetMembers;

constexpr std::int64_t kMaxSeconds = 3650LL * 86400;

std::string names_of(const policy::Config& config) {
  std::string names;
  for (const auto& set : config.sets)
    names += (names.empty() ? "" : ", ") + set.name;
  return names.empty() ? "the policy has no sets" : "known: " + names;
}

std::expected<std::vector<policy::Prefix>, std::string> addresses_of(const json::object& request) {
  std::vector<policy::Prefix> out;
  const json::value* value = request.if_contains("addresses");
  if (value == nullptr || !value->is_array() || value->as_array().empty())
    return std::unexpected("no address is given");
  for (const json::value& element : value->as_array()) {
    const std::string text = element.is_string() ? std::string(element.as_string()) : "";
    const auto prefix = policy::Prefix::parse(text);
    if (!prefix)
      return std::unexpected("'" + text +
                             "' is not an address or prefix; write 192.0.2.1, "
                             "192.0.2.0/24 or 2001:db8::/64 (host bits zero)");
    out.push_back(*prefix);
  }
  return out;
}

// Address ─► "namespace/name" of the pod, of those that the set selects.
using PodAddresses = std::map<policy::IpAddress, std::string>;

PodAddresses pods_of(const policy::SetConfig& set, const std::vector<policy::Pod>& pods) {
  PodAddresses out;
  if (!set.pods) return out;
  for (const policy::Pod& pod : pods) {
    if (!policy::selects(*set.pods, pod)) continue;
    for (const policy::IpAddress& address : pod.addresses)
      out[address] = pod.name_space + "/" + pod.name;
  }
  return out;
}

json::object summary(const policy::SetConfig& set, const SetMembers& members,
                     const PodAddresses& pods) {
  const std::size_t declared = set.declared->size();
  const std::size_t added = members.list(set.name).size();
  // Pods one by one: the fewest prefixes that hold them say less.
  const std::size_t prefixes = set.pods ? declared + added + pods.size() : set.members->size();
  json::object out{
      {"name", set.name}, {"prefixes", prefixes}, {"declared", declared}, {"added", added}};
  if (set.pods) out["pods"] = pods.size();
  if (!set.file.empty()) out["file"] = set.file;
  return out;
}

json::array members_of(const policy::SetConfig& set, const SetMembers& members,
                       const PodAddresses& pods) {
  json::array out;
  for (const auto& [address, pod] : pods)
    out.push_back(json::object{{"address", address.to_string()}, {"pod", pod}});
  const auto now = SetMembers::Clock::now();
  for (const auto& member : members.list(set.name)) {
    json::object entry{{"address", member.prefix.to_string()}, {"reason", member.reason}};
    if (member.expires) {
      const auto left = std::chrono::ceil<std::chrono::seconds>(*member.expires - now);
      entry["seconds_left"] = std::max<std::int64_t>(left.count(), 0);
    }
    out.push_back(std::move(entry));
  }
  return out;
}

json::object list(const PolicyReloader& reloader, const SetMembers& members,
                  const std::string& name) {
  json::array sets;
  const auto pods = policy::parse_pods(pods_in(reloader.current().files));
  for (const auto& set : reloader.current().config().sets) {
    if (!name.empty() && set.name != name) continue;
    const PodAddresses chosen = pods_of(set, pods);
    json::object entry = summary(set, members, chosen);
    const auto stale = std::ranges::find(reloader.current().stale, set.name, &StaleSet::name);
    if (stale != reloader.current().stale.end()) entry["stale"] = stale->why.to_string();
    entry["members"] = members_of(set, members, chosen);
    sets.push_back(std::move(entry));
  }
  if (sets.empty() && !name.empty())
    return admin_error("there is no set '" + name + "'; " + names_of(reloader.current().config()));
  return {{"ok", true}, {"sets", std::move(sets)}};
}

// An error leaves half of it.
std::expected<std::size_t, std::string> change(SetMembers& members, const std::string& set,
                                               const std::vector<policy::Prefix>& addresses,
                                               const json::object& request) {
  std::size_t changed = 0;
  if (text_of(request, "action") == "delete") {
    for (const auto& prefix : addresses)
      changed += members.remove(set, prefix) ? 1 : 0;
    if (changed == 0)
      return std::unexpected(
          "none of these was added at run time; what the policy or a file of it lists is deleted "
          "there");
    return changed;
  }
  std::optional<SetMembers::Clock::time_point> expires;
  if (const json::value* seconds = request.if_contains("seconds")) {
    if (!seconds->is_int64() || seconds->as_int64() < 1 || seconds->as_int64() > kMaxSeconds)
      return std::unexpected("a member stays 1 second to 10 years, or until it is deleted");
    expires = SetMembers::Clock::now() + std::chrono::seconds(seconds->as_int64());
  }
  for (const auto& prefix : addresses) {
    auto added = members.add(
        set, {.prefix = prefix, .expires = expires, .reason = text_of(request, "reason")});
    if (!added) return std::unexpected(added.error());
    ++changed;
  }
  return changed;
}

}  // namespace

void handle_set(PolicyReloader& reloader, const json::object& request,
                const AdminCommands::Respond& respond) {
  const std::string action = text_of(request, "action");
  const std::string name = text_of(request, "set");
  SetMembers& members = reloader.members();
  if (action == "list") return respond(list(reloader, members, name));
  if (action != "add" && action != "delete")
    return respond(admin_error("unknown action '" + action + "'; known: add, delete, list"));
  const policy::Config& config = reloader.current().config();
  if (std::ranges::find(config.sets, name, &policy::SetConfig::name) == config.sets.end())
    return respond(admin_error("there is no set '" + name + "'; " + names_of(config)));
  const auto addresses = addresses_of(request);
  if (!addresses) return respond(admin_error(addresses.error()));
  SetMembers next = members;
  const auto changed = change(next, name, *addresses, request);
  if (!changed) return respond(admin_error(changed.error()));
  const json::value* force = request.if_contains("force");
  if (force == nullptr || *force != true) {
    const std::string why = reloader.cut_off_by(next, *addresses);
    if (!why.empty()) return respond(admin_error(why + "; --force does it all the same"));
  }
  members = std::move(next);
  const auto saved = members.save(config.state_dir);
  reloader.put_members_in_force([respond, name, changed, saved](const ReloadOutcome& outcome) {
    if (!outcome.ok())
      return respond(
          admin_error("not in force yet, and tried again each second: " + outcome.error));
    json::object answer{
        {"ok", true}, {"set", name}, {"changed", *changed}, {"generation", outcome.generation}};
    if (!saved) answer["warning"] = "in force, but not kept over a restart: " + saved.error();
    respond(std::move(answer));
  });
}

}  // namespace sluice::control
