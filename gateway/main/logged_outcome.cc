#include "gateway/main/logged_outcome.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/main/json_text.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostPlaces = 8;
constexpr std::string_view kCut = "…";

// Names of the log are bounded.
bool is_called(std::string_view name, std::string_view logged) {
  if (!logged.ends_with(kCut)) return name == logged;
  logged.remove_suffix(kCut.size());
  return name.starts_with(logged);
}

// nullptr: the policy has none of that name.
template <typename Entry>
const Entry* named_in(const std::vector<Entry>& entries, std::string_view logged) {
  if (logged.empty()) return nullptr;
  const auto found = std::ranges::find_if(
      entries, [&](const Entry& entry) { return is_called(entry.name, logged); });
  return found == entries.end() ? nullptr : &*found;
}

std::string quoted(std::string_view what, std::string_view name) {
  return std::string(what) + " `" + std::string(name) + "`";
}

const json::array& array_in(const json::object& object, std::string_view key) {
  static const json::array kNone;
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_array() ? value->get_array() : kNone;
}

// "limit few exceeded", of a connection "limit few"; "": none.
std::string_view limit_in(std::string_view reason) {
  constexpr std::string_view kBefore = "limit ";
  constexpr std::string_view kBehind = " exceeded";
  if (!reason.starts_with(kBefore)) return "";
  reason.remove_prefix(kBefore.size());
  if (reason.ends_with(kBehind)) reason.remove_suffix(kBehind.size());
  return reason;
}

// What the log says, and which entries of the policy are meant.
class Decided {
 public:
  Decided(const json::object& logged, const policy::Config& config, const json::object& now)
      : logged_(logged),
        config_(config),
        now_(now),
        route_(named_in(config.routes, text("route"))),
        reason_(text("reason")) {
    if (const json::value* status = logged.if_contains("status"); status && status->is_int64())
      status_ = static_cast<int>(status->as_int64());
  }

  json::object tell() {
    name_cause();
    if (!text("route").empty()) name("route", text("route"), route_);
    if (!text("upstream").empty())
      name("upstream", text("upstream"), named_in(config_.upstreams, text("upstream")));
    json::object out{{"outcome", outcome()}};
    if (status_ != 0) out["status"] = status_;
    if (!reason_.empty()) out["reason"] = reason_;
    if (!text("route").empty()) out["route"] = text("route");
    out["places"] = std::move(places_);
    return out;
  }

  bool forwarded() const { return !text("endpoint").empty(); }
  int status() const { return status_; }
  const policy::Route* route() const { return route_; }

 private:
  std::string_view text(std::string_view key) const { return gateway::text_in(logged_, key); }

  std::string outcome() const {
    std::string out;
    if (text("kind") == "refused") {
      out = "the connection was turned away";
    } else if (text("kind") == "open" || text("kind") == "close") {
      out = "relayed as a connection";
    } else if (status_ == 0) {
      out = "ended without an answer";
    } else {
      out = "answered with " + std::to_string(status_);
    }
    if (forwarded()) out += ", by " + quoted("upstream", text("upstream"));
    if (!reason_.empty()) out += ": " + std::string(reason_);
    const std::string_view route = text("route");
    return out + (route.empty() ? "; no route" : "; " + quoted("route", route));
  }

  void add(std::string what, const policy::Location& where) {
    if (places_.size() >= kMostPlaces) return;
    json::object place{{"text", std::move(what)}};
    if (where.line != 0) place["where"] = where.to_string();
    places_.push_back(std::move(place));
  }

  template <typename Entry>
  void name(std::string_view kind, std::string_view called, const Entry* entry) {
    if (entry != nullptr) return add(quoted(kind, entry->name), entry->where);
    add("the policy has no " + quoted(kind, called) + " now", {});
  }

  // What the reason speaks of: a limit, a ban, access rules, auth, a setting of the listener.
  void name_cause() {
    const policy::Listener* listener = named_in(config_.listeners, text("listener"));
    if (const std::string_view limit = limit_in(reason_); !limit.empty()) {
      name("limit", limit, named_in(config_.limits, limit));
    } else if (reason_ == "banned" || reason_.starts_with("diverted")) {
      name_bans(reason_ == "banned" ? policy::BanAction::drop : policy::BanAction::route);
    } else if (reason_ == "access denied") {
      if (route_ != nullptr) {
        add("access of " + quoted("route", route_->name), route_->where);
      } else if (listener != nullptr) {
        add("access of " + quoted("listener", listener->name), listener->where);
      }
    } else if (reason_ == "no route") {
      add("default_route", config_.default_route.where);
    } else if (status_ == 401 || reason_.find("authorization ") != std::string_view::npos) {
      if (route_ != nullptr) {
        for (const std::string& one : route_->auth)
          name("auth", one, named_in(config_.auth, one));
      }
    } else if (listener != nullptr && (status_ == 408 || status_ == 421 || route_ == nullptr)) {
      add(quoted("listener", listener->name), listener->where);
    }
  }

  // The log does not say by which rule: who is banned still knows it.
  void name_bans(policy::BanAction action) {
    for (const auto& value : array_in(now_, "steps")) {
      const json::object& step = value.as_object();
      if (text_of(step, "phase") != "bans") continue;
      for (const auto& reason : array_in(step, "reasons"))
        add("still banned: " + text_of(reason.as_object(), "text"), {});
      if (!places_.empty()) return;
    }
    const auto brings = [&](const policy::BanRule& rule) {
      return rule.action == action && rule.mode == policy::BanMode::enforce;
    };
    const bool one = std::ranges::count_if(config_.bans.rules, brings) == 1;
    for (const policy::BanRule& rule : config_.bans.rules) {
      if (brings(rule)) add(one ? "the ban rule" : "one of the ban rules", rule.where);
    }
    if (places_.empty())
      add("no rule of the policy bans now: it was one of before, or `sluice ban`", {});
  }

  const json::object& logged_;
  const policy::Config& config_;
  const json::object& now_;
  const policy::Route* route_;
  std::string_view reason_;
  int status_ = 0;
  json::array places_;
};

bool asks_who(const policy::AccessRules& rules) {
  const auto asks = [](const policy::AccessSource& source) {
    return !source.identity.empty() || source.claim.has_value();
  };
  return std::ranges::any_of(rules.allow, asks) || std::ranges::any_of(rules.deny, asks);
}

// What routes look at and the log does not keep; "": nothing.
std::string_view looks_at(const policy::Route& route) {
  if (!route.headers.empty()) return "header fields";
  return route.query.empty() ? "" : "the query";
}

// Of the route that would have the request now.
void tell_unknown(const policy::Route& route, const policy::Config& config, json::array& unknown) {
  const std::string of = " of " + quoted("route", route.name);
  if (!route.auth.empty()) unknown.emplace_back("the credentials that `auth`" + of + " asks for");
  if (asks_who(route.access))
    unknown.emplace_back("the certificate or claims that `access`" + of + " looks at");
  for (const policy::LimitUse& use : route.limits) {
    const policy::Limit* limit = named_in(config.limits, use.name);
    const auto is_told = [](const policy::LimitKeyPart& part) {
      return part.kind != policy::LimitKey::header && part.kind != policy::LimitKey::claim &&
             part.kind != policy::LimitKey::identity;
    };
    if (limit != nullptr && !std::ranges::all_of(limit->key, is_told))
      unknown.emplace_back("what " + quoted("limit", limit->name) + " counts by");
  }
}

std::string listed(const json::array& texts) {
  std::string out;
  for (const auto& text : texts)
    out += (out.empty() ? "" : ", ") + std::string(text.as_string());
  return out;
}

// The step that finds the route; end: the way ends before.
json::array::iterator route_step(json::array& steps) {
  return std::ranges::find_if(
      steps, [](const json::value& step) { return text_of(step.as_object(), "phase") == "route"; });
}

// Cuts the steps where the log cannot tell, and says what becomes of it now.
json::object tell_now(json::object& answer, const policy::Route* logged,
                      const policy::Config& config) {
  if (answer["ok"] != true) {
    const std::string why = text_of(answer, "error");
    answer["steps"] = json::array{};
    return {{"outcome", "not known: " + why}, {"unknown", json::array{why}}};
  }
  json::array unknown;
  json::array& steps = answer["steps"].as_array();
  const auto step = route_step(steps);
  const std::string found = step == steps.end() ? "" : text_of(step->as_object(), "name");
  if (step != steps.end() && logged != nullptr && found != logged->name &&
      !looks_at(*logged).empty()) {
    const std::string what = quoted("route", logged->name) + " looks at " +
                             std::string(looks_at(*logged)) + ", which the log does not have";
    json::object instead{
        {"phase", "route"}, {"verdict", "not known: " + what}, {"reasons", json::array{}}};
    if (logged->where.line != 0) instead["where"] = logged->where.to_string();
    steps.erase(step, steps.end());
    steps.push_back(std::move(instead));
    return {{"outcome", "not known: " + what}, {"unknown", json::array{what}}};
  }
  if (const policy::Route* route = named_in(config.routes, found))
    tell_unknown(*route, config, unknown);
  std::string outcome = text_of(answer, "outcome");
  if (!unknown.empty()) outcome += ", as far as the log tells; it does not have " + listed(unknown);
  json::object now{{"outcome", std::move(outcome)}};
  for (const char* key : {"verdict", "status", "passes"}) {
    if (const json::value* value = answer.if_contains(key)) now[key] = *value;
  }
  now["unknown"] = std::move(unknown);
  return now;
}

}  // namespace

json::object with_logged(json::object now, const json::object& logged, const policy::Config& config,
                         NowBy by) {
  Decided decided(logged, config, now);
  json::object told = decided.tell();
  json::object after = tell_now(now, decided.route(), config);
  after["by"] = by == NowBy::live ? "live" : "policy";
  json::object out = std::move(now);
  out.erase("error");
  out["ok"] = true;
  out["outcome"] = told.at("outcome");
  out["verdict"] = decided.forwarded() ? "forward" : "refuse";
  out["passes"] = decided.forwarded();
  out.erase("status");
  if (decided.status() != 0) out["status"] = decided.status();
  out["logged"] = text_of(logged, "text");
  out["decided"] = std::move(told);
  out["now"] = std::move(after);
  return out;
}

}  // namespace sluice::control
