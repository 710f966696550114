#include "policy/explain.h"

#include <array>

#include "policy/explain/steps.h"
#include "policy/host.h"

namespace sluice::policy {

namespace {

// The headers of a description, joined as the gateway joins lines.
class DescribedFields final : public FieldSource {
 public:
  explicit DescribedFields(const std::vector<std::pair<std::string, std::string>>& headers)
      : headers_(headers) {}

  std::optional<std::string_view> field(std::string_view lower_name) const override {
    bool found = false;
    joined_.clear();
    for (const auto& [name, value] : headers_) {
      if (!same(name, lower_name)) continue;
      if (found) joined_ += ", ";
      joined_ += value;
      found = true;
    }
    return found ? std::optional<std::string_view>(joined_) : std::nullopt;
  }

 private:
  static bool same(std::string_view name, std::string_view lower) {
    if (name.size() != lower.size()) return false;
    for (std::size_t i = 0; i < name.size(); ++i) {
      const char c = name[i] >= 'A' && name[i] <= 'Z' ? static_cast<char>(name[i] + 32) : name[i];
      if (c != lower[i]) return false;
    }
    return true;
  }

  const std::vector<std::pair<std::string, std::string>>& headers_;
  mutable std::string joined_;
};

Explanation ended(Explanation so_far, bool passes) {
  so_far.outcome = so_far.steps.back().verdict;
  so_far.passes = passes;
  return so_far;
}

std::optional<std::uint32_t> listener_of(const Snapshot& snapshot, const std::string& name) {
  if (name.empty() && snapshot.config().listeners.size() == 1) return 0;
  return snapshot.find_listener(name);
}

Explanation no_listener(const std::string& name) {
  Explanation explanation;
  explanation.steps.push_back({"listener", "there is no listener `" + name + "`", {}, {}, true});
  return ended(std::move(explanation), false);
}

}  // namespace

Explanation explain(const Snapshot& snapshot, const PacketDescription& packet,
                    const LiveState& live) {
  Explanation explanation;
  explanation.steps.push_back(explaining::protect(snapshot, packet, live));
  const bool is_protected = explanation.steps.back().verdict != "not protected";
  if (!is_protected) {
    explanation.steps.push_back(explaining::bans(packet, live));
    if (explanation.steps.back().final) return ended(std::move(explanation), false);
    explanation.steps.push_back(explaining::guard(snapshot, packet));
    if (explanation.steps.back().final) return ended(std::move(explanation), false);
  }
  explanation.steps.push_back(explaining::intercept(snapshot, packet));
  return ended(std::move(explanation), true);
}

Explanation explain(const Snapshot& snapshot, const RequestDescription& request,
                    const LiveState& /*live*/) {
  const auto listener = listener_of(snapshot, request.listener);
  if (!listener) return no_listener(request.listener);
  Explanation explanation;
  const Listener& served = snapshot.config().listeners[*listener];
  explanation.steps.push_back(
      {"listener", "listener `" + served.name + "`", served.where, {}, false});

  std::array<char, kMaxHostLength> host_memory;
  const auto host = normalise_host(request.host, host_memory);
  if (!host) {
    explanation.steps.push_back(
        {"head", "refused with 400: `" + request.host + "` is no host", {}, {}, true});
    return ended(std::move(explanation), false);
  }
  const DescribedFields fields(request.headers);
  const std::vector<std::string_view> names(request.certificate_names.begin(),
                                            request.certificate_names.end());
  const ClientIdentity identity{names};
  const std::string_view target = request.target;
  const std::size_t question = target.find('?');
  RequestView view;
  view.client = request.client;
  view.destination = request.destination;
  view.method = request.method;
  view.host = *host;
  view.path = target.substr(0, question);
  view.query = question == std::string_view::npos ? "" : target.substr(question + 1);
  view.fields = &fields;
  view.identity = &identity;

  const auto add_access = [&](const std::string& owner, const Access& access,
                              const Location& where, bool closes) {
    if (access.empty()) return true;
    explanation.steps.push_back(explaining::access(owner, access, where, view, closes));
    return !explanation.steps.back().final;
  };
  if (!add_access("listener `" + served.name + "`", snapshot.listener(*listener).access,
                  served.where, true)) {
    return ended(std::move(explanation), false);
  }
  explaining::RouteStep found = explaining::route(snapshot, *listener, view);
  explanation.steps.push_back(std::move(found.step));
  if (!found.route) {
    explanation.steps.push_back(explaining::fallback(snapshot, request.way));
    const bool passes = !explanation.steps.back().final;
    return ended(std::move(explanation), passes);
  }
  const Route& route = snapshot.config().routes[*found.route];
  if (!add_access("route `" + route.name + "`", snapshot.route(*found.route).access, route.where,
                  false)) {
    return ended(std::move(explanation), false);
  }
  explanation.steps.push_back(explaining::limits(snapshot, route, served));
  explanation.steps.push_back(explaining::upstream(snapshot, route));
  return ended(std::move(explanation), true);
}

}  // namespace sluice::policy
