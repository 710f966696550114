#include "policy/explain.h"

#include <algorithm>
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

// Several of one name are the elements of a list.
class DescribedClaims final : public AttributeSource {
 public:
  explicit DescribedClaims(const std::vector<std::pair<std::string, std::string>>& claims)
      : claims_(claims) {}
  std::optional<std::string_view> attribute(std::string_view name) const override {
    joined_.clear();
    for (const auto& [known, value] : claims_) {
      if (known == name) joined_.append(joined_.empty() ? "" : " ").append(value);
    }
    return joined_.empty() ? std::nullopt : std::optional<std::string_view>(joined_);
  }
  bool has(std::string_view name, std::string_view element) const override {
    return std::ranges::any_of(
        claims_, [&](const auto& claim) { return claim.first == name && claim.second == element; });
  }

 private:
  const std::vector<std::pair<std::string, std::string>>& claims_;
  mutable std::string joined_;
};

Explanation ended(Explanation so_far, Verdict verdict) {
  so_far.outcome = so_far.steps.back().verdict;
  so_far.verdict = verdict;
  so_far.passes = verdict != Verdict::drop && verdict != Verdict::refuse;
  return so_far;
}

Explanation no_listener(const std::string& name) {
  Explanation explanation;
  explanation.steps.push_back(
      {"listener",
       name.empty() ? "there are several listeners, and none at the URL's port: name one "
                      "(--listener), or say where it comes from and goes to (--from, --to)"
                    : "there is no listener `" + name + "`",
       {},
       {},
       true});
  return ended(std::move(explanation), Verdict::refuse);
}

constexpr const char* kAskForRequest =
    "what happens next depends on the request: give a method and a URL";

constexpr std::array<std::string_view, 4> kSpeaks{"http", "tcp", "auto", "tls"};

Step listener_step(const Listener& listener) {
  const std::string speaks(kSpeaks[static_cast<std::size_t>(listener.protocol)]);
  return {"listener",     "listener `" + listener.name + "` (protocol " + speaks + ")",
          listener.where, {},
          false,          listener.name};
}

// Upstream and balance, which end every way that is not refused.
Explanation forwarded(Explanation so_far, const Snapshot& snapshot,
                      std::span<const std::uint32_t> upstreams, const LiveState& live) {
  so_far = ended(std::move(so_far), Verdict::forward);
  so_far.steps.back().final = false;
  so_far.steps.push_back(explaining::balance(snapshot, upstreams, live));
  return so_far;
}

// A connection that is no HTTP gives a name in TLS alone.
bool names_itself(const Snapshot& snapshot, const Explanation& so_far, const RequestView& view) {
  return !view.host.empty() ||
         snapshot.config().listeners[*so_far.listener].protocol == ListenerProtocol::tls;
}

// Adds the step where the name has to belong to the address; true: it cannot.
bool misdirected(Explanation& so_far, const Snapshot& snapshot, bool by_name,
                 const RequestView& view) {
  auto step = explaining::authority(snapshot, *so_far.listener, so_far.way, by_name, view);
  if (!step) return false;
  so_far.steps.push_back(std::move(*step));
  if (!so_far.steps.back().final) return false;
  so_far.status = view.fields != nullptr ? 421 : 0;
  return true;
}

// Ends what is no HTTP: it cannot be asked what the policy wants to know of it.
Explanation closed(Explanation so_far, std::string why, const Location& where) {
  so_far.steps.push_back({"route", "closed, being no HTTP: " + std::move(why), where, {}, true});
  return ended(std::move(so_far), Verdict::refuse);
}

// Adds the step where a connection that is no HTTP must not reach one of the upstreams, of which
// one is chosen; true: it must reach none.
bool guarded(Explanation& so_far, const Snapshot& snapshot, std::optional<std::uint32_t> route,
             std::span<const std::uint32_t> upstreams) {
  std::string names;
  bool all = !upstreams.empty();
  for (const std::uint32_t upstream : upstreams) {
    if (snapshot.is_guarded(*so_far.listener, upstream, route)) {
      names += (names.empty() ? "`" : ", `") + snapshot.config().upstreams[upstream].name + "`";
    } else {
      all = false;
    }
  }
  if (names.empty()) return false;
  so_far.steps.push_back({"route",
                          std::string(all ? "closed" : "closed where it would go there") +
                              ", being no HTTP: a route of the listener asks of who goes to " +
                              names + " what only HTTP says",
                          route ? snapshot.config().routes[*route].where : Location{},
                          {},
                          all});
  return all;
}

Explanation by_default(Explanation so_far, const Snapshot& snapshot, Way way,
                       const RequestView& view, const LiveState& live) {
  explaining::FallbackStep found = explaining::fallback(snapshot, way);
  so_far.steps.push_back(std::move(found.step));
  const bool named = view.fields != nullptr || names_itself(snapshot, so_far, view);
  if (misdirected(so_far, snapshot, named && snapshot.fallback_by_name(way), view))
    return ended(std::move(so_far), Verdict::refuse);
  if (found.upstream) {
    const std::uint32_t upstreams[] = {*found.upstream};
    if (view.fields == nullptr && guarded(so_far, snapshot, std::nullopt, upstreams))
      return ended(std::move(so_far), Verdict::refuse);
    const Upstream& upstream = snapshot.config().upstreams[*found.upstream];
    Explanation whole = forwarded(std::move(so_far), snapshot, upstreams, live);
    whole.steps.insert(whole.steps.end() - 1, Step{"upstream",
                                                   "forwarded to upstream `" + upstream.name + "`",
                                                   upstream.where,
                                                   {},
                                                   false,
                                                   upstream.name});
    return whole;
  }
  so_far.status = found.status;
  return ended(std::move(so_far), Verdict::refuse);
}

// Adds the step where there are rules; true: they refuse.
bool refuses(Explanation& so_far, const std::string& owner, const Access& access,
             const Location& where, const RequestView& view, bool closes) {
  if (access.empty()) return false;
  so_far.steps.push_back(explaining::access(owner, access, where, view, closes));
  return so_far.steps.back().final;
}

// What the listener looks at before a byte is read; true: it ends there, and `so_far` says how.
bool ends_at_door(Explanation& so_far, const Snapshot& snapshot, const RequestView& view,
                  const LiveState& live) {
  const Listener& listener = snapshot.config().listeners[*so_far.listener];
  if (refuses(so_far, "listener `" + listener.name + "`",
              snapshot.listener(*so_far.listener).access, listener.where, view, true)) {
    so_far = ended(std::move(so_far), Verdict::refuse);
    return true;
  }
  if (auto limits = explaining::listener_limits(snapshot, *so_far.listener, view, live)) {
    so_far.steps.push_back(std::move(limits->step));
    if (limits->refused) {
      so_far = ended(std::move(so_far), Verdict::refuse);
      return true;
    }
  }
  return false;
}

// A source that the gateway itself has banned; true: its way ends there, or elsewhere.
bool ends_by_ban(Explanation& so_far, const Snapshot& snapshot, const RequestView& view,
                 const LiveState& live) {
  auto ban = explaining::own_ban(view.client, view.client_claimed, live);
  if (!ban) return false;
  so_far.steps.push_back(std::move(ban->step));
  if (ban->refused) {
    so_far.status = view.fields != nullptr ? 403 : 0;
    so_far = ended(std::move(so_far), Verdict::refuse);
    return true;
  }
  if (!ban->upstream) return false;
  const std::uint32_t upstreams[] = {*ban->upstream};
  so_far = forwarded(std::move(so_far), snapshot, upstreams, live);
  return true;
}

Explanation by_route(Explanation so_far, const Snapshot& snapshot, std::uint32_t index,
                     const RequestView& view, const LiveState& live) {
  const Route& route = snapshot.config().routes[index];
  const bool http = view.fields != nullptr;
  if (misdirected(so_far, snapshot,
                  snapshot.route(index).by_name && (http || names_itself(snapshot, so_far, view)),
                  view))
    return ended(std::move(so_far), Verdict::refuse);
  if (!snapshot.route(index).auth.empty()) {
    if (!http) return closed(std::move(so_far), "it cannot say who it is", route.where);
    so_far.steps.push_back(explaining::auth(snapshot, index));
  }
  if (refuses(so_far, "route `" + route.name + "`", snapshot.route(index).access, route.where, view,
              !http)) {
    so_far.status = http ? 403 : 0;
    return ended(std::move(so_far), Verdict::refuse);
  }
  explaining::LimitsStep limits = explaining::limits(snapshot, index, view, live);
  so_far.steps.push_back(std::move(limits.step));
  if (limits.refused) {
    so_far.status = http ? 429 : 0;
    return ended(std::move(so_far), Verdict::refuse);
  }
  if (!http && snapshot.route(index).targets.empty())
    return closed(std::move(so_far), "the route answers over HTTP only", route.where);
  so_far.steps.push_back(explaining::upstream(snapshot, route));
  if (route.actions.answers()) {
    so_far.status = route.actions.redirect ? route.actions.redirect->status
                                           : route.actions.direct_response->status;
    return ended(std::move(so_far), Verdict::refuse);
  }
  std::vector<std::uint32_t> upstreams;
  if (route.ai) {
    for (const AiProvider& provider : snapshot.config().ai->providers)
      if (const auto upstream = snapshot.find_upstream(provider.url.upstream))
        upstreams.push_back(*upstream);
  }
  for (const RouteTarget& target : snapshot.route(index).targets)
    upstreams.push_back(target.upstream);
  if (!http && guarded(so_far, snapshot, index, upstreams))
    return ended(std::move(so_far), Verdict::refuse);
  return forwarded(std::move(so_far), snapshot, upstreams, live);
}

}  // namespace

std::optional<std::uint32_t> listener_of(const Snapshot& snapshot, const std::string& name) {
  if (name.empty() && snapshot.config().listeners.size() == 1) return 0;
  return snapshot.find_listener(name);
}

const Step* Explanation::find(std::string_view phase) const {
  // From the end: a request that no route claims has two steps of phase route.
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (step->phase == phase) return &*step;
  }
  return nullptr;
}

Explanation explain(const Snapshot& snapshot, const PacketDescription& packet,
                    const LiveState& live) {
  Explanation explanation;
  explanation.steps.push_back(explaining::protect(snapshot, packet, live));
  if (explanation.steps.back().verdict == explaining::kNotProtected) {
    explanation.steps.push_back(explaining::bans(snapshot, packet, live));
    if (explanation.steps.back().final) return ended(std::move(explanation), Verdict::drop);
    explanation.steps.push_back(explaining::guard(snapshot, packet, live));
    if (explanation.steps.back().final) return ended(std::move(explanation), Verdict::drop);
    if (auto rates = explaining::syn_rate(snapshot, packet, live))
      explanation.steps.push_back(std::move(*rates));
  }
  explaining::InterceptStep caught = explaining::intercept(snapshot, packet, live);
  explanation.steps.push_back(caught.step);
  explanation = ended(std::move(explanation), caught.listener ? Verdict::caught : Verdict::pass);
  if (!caught.listener) {
    auto bypass = explaining::bypass(snapshot, packet, live);
    if (!bypass) return explanation;
    explanation.steps.push_back(std::move(*bypass));
    if (!explanation.steps.back().final) return explanation;
    return ended(std::move(explanation), Verdict::drop);
  }
  explanation.listener = caught.listener;
  explanation.way = caught.way;
  explanation.steps.push_back(explaining::steering(caught, live));
  return explanation;
}

Explanation explain_connection(const Snapshot& snapshot, const RequestDescription& connection,
                               const LiveState& live) {
  const auto listener = listener_of(snapshot, connection.listener);
  if (!listener) return no_listener(connection.listener);
  Explanation explanation;
  explanation.listener = listener;
  explanation.way = connection.way;
  explanation.steps.push_back(listener_step(snapshot.config().listeners[*listener]));
  std::array<char, kMaxHostLength> host_memory;
  RequestView view;
  view.client = connection.client;
  view.destination = connection.destination;
  view.host = normalise_host(connection.host, host_memory).value_or("");
  if (ends_at_door(explanation, snapshot, view, live)) return explanation;
  if (ends_by_ban(explanation, snapshot, view, live)) return explanation;
  const Listener& entered = snapshot.config().listeners[*listener];
  if (auto tls = explaining::tls(entered, view.host)) explanation.steps.push_back(std::move(*tls));
  if (entered.protocol == ListenerProtocol::http) {
    explanation.steps.push_back({"head", kAskForRequest, {}, {}, true});
    return ended(std::move(explanation), Verdict::caught);
  }
  explaining::RouteStep found = explaining::connection_route(snapshot, *listener, view);
  explanation.steps.push_back(std::move(found.step));
  if (!found.route) return by_default(std::move(explanation), snapshot, connection.way, view, live);
  return by_route(std::move(explanation), snapshot, *found.route, view, live);
}

Explanation explain(const Snapshot& snapshot, const RequestDescription& request,
                    const LiveState& live) {
  const auto listener = listener_of(snapshot, request.listener);
  if (!listener) return no_listener(request.listener);
  Explanation explanation;
  explanation.listener = listener;
  explanation.way = request.way;
  explanation.steps.push_back(listener_step(snapshot.config().listeners[*listener]));

  std::array<char, kMaxHostLength> host_memory;
  const auto host = normalise_host(request.host, host_memory);
  if (!host) {
    explanation.steps.push_back(
        {"head", "refused with 400: `" + request.host + "` is no host", {}, {}, true});
    explanation.status = 400;
    return ended(std::move(explanation), Verdict::refuse);
  }
  const DescribedFields fields(request.headers);
  const std::vector<std::string_view> names(request.certificate_names.begin(),
                                            request.certificate_names.end());
  const ClientIdentity identity{names};
  const DescribedClaims claims(request.claims);
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
  view.attributes = &claims;

  if (auto tls = explaining::tls(snapshot.config().listeners[*listener], view.host))
    explanation.steps.push_back(std::move(*tls));
  if (ends_at_door(explanation, snapshot, view, live)) return explanation;
  if (request.claim) {
    view.client = request.claim->client;
    view.client_claimed = true;
    explanation.steps.push_back(explaining::client(*request.claim));
  }
  if (ends_by_ban(explanation, snapshot, view, live)) return explanation;
  explaining::RouteStep found = explaining::route(snapshot, *listener, view);
  explanation.steps.push_back(std::move(found.step));
  if (!found.route) return by_default(std::move(explanation), snapshot, request.way, view, live);
  return by_route(std::move(explanation), snapshot, *found.route, view, live);
}

Explanation explain(const Snapshot& snapshot, const PacketDescription& packet,
                    const RequestDescription* request, const LiveState& live) {
  Explanation explanation = explain(snapshot, packet, live);
  if (!explanation.listener) return explanation;
  const Listener& listener = snapshot.config().listeners[*explanation.listener];
  RequestDescription described = request != nullptr ? *request : RequestDescription{};
  described.listener = listener.name;
  described.way = explanation.way;
  described.client = packet.from;
  described.destination = SocketAddress{packet.to, packet.to_port};
  const bool http = request != nullptr && listener.protocol != ListenerProtocol::tcp &&
                    listener.protocol != ListenerProtocol::tls;
  Explanation rest =
      http ? explain(snapshot, described, live) : explain_connection(snapshot, described, live);
  if (rest.verdict == Verdict::caught) rest.outcome = explanation.outcome;
  rest.steps.insert(rest.steps.begin(), std::make_move_iterator(explanation.steps.begin()),
                    std::make_move_iterator(explanation.steps.end()));
  return rest;
}

Explanation explain_source(const Snapshot& snapshot, const IpAddress& source, KnownBy known_by,
                           const LiveState& live) {
  Explanation told;
  if (known_by != KnownBy::gateway) {
    PacketDescription packet;
    packet.from = source;
    told.steps.push_back(explaining::source_protect(snapshot, source, live));
    told.steps.push_back(explaining::bans(snapshot, packet, live));
    told.steps.push_back(explaining::source_guard(snapshot, source));
  }
  if (known_by != KnownBy::kernel) {
    if (auto ban = explaining::own_ban(source, false, live))
      told.steps.push_back(std::move(ban->step));
    told.steps.push_back(explaining::source_access(snapshot, source));
    told.steps.push_back(explaining::source_limits(snapshot, source, live));
  }
  const bool dropped = std::ranges::any_of(told.steps, &Step::final);
  told.verdict = dropped ? Verdict::drop : Verdict::pass;
  told.passes = !dropped;
  for (const Step& step : told.steps)
    told.outcome += (told.outcome.empty() ? "" : "; ") + step.phase + ": " + step.verdict;
  return told;
}

}  // namespace sluice::policy
