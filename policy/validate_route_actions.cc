// Cross-checks of what routes do besides forwarding.
#include <algorithm>
#include <string>

#include "policy/cors.h"
#include "policy/field_template.h"
#include "policy/host.h"
#include "policy/route_actions.h"
#include "policy/validate.h"

namespace sluice::policy {

namespace {

class RouteActionsCheck {
 public:
  RouteActionsCheck(const Route& route, Reporter& reporter)
      : route_(route), actions_(route.actions), reporter_(reporter) {}

  void run() {
    changes(actions_.request_headers, "request_headers");
    changes(actions_.response_headers, "response_headers");
    if (actions_.rewrite) rewrite(*actions_.rewrite);
    if (actions_.redirect) redirect(*actions_.redirect);
    if (actions_.direct_response) direct_response(*actions_.direct_response);
    if (actions_.cors) cors(*actions_.cors);
  }

 private:
  std::string of_route() const { return " of route `" + route_.name + "`"; }

  void reserved(const std::string& name, const Location& where, const std::string& key) {
    if (!is_reserved_field(name)) return;
    reporter_.error(where, key + of_route() + " cannot change `" + name + "`",
                    name == "host" ? "use `rewrite: { host: … }`"
                                   : "it frames the message, and Sluice makes it for each hop");
  }

  void changes(const FieldChanges& changes, const std::string& key) {
    for (const auto* list : {&changes.set, &changes.add}) {
      for (const FieldChange& change : *list) {
        reserved(change.name, change.where, key);
        if (const auto value = FieldTemplate::parse(change.value); !value) {
          reporter_.error(change.where, key + of_route() + ", `" + change.name + "`: " +
                                            value.error());
        }
      }
    }
    for (const std::string& name : changes.remove)
      reserved(name, changes.where, key);
  }

  void path(const PathChange& change, const Location& where, const std::string& key) {
    if (change.kind != PathChange::Kind::prefix) return;
    if (route_.path.kind == PathMatch::Kind::prefix || route_.path.kind == PathMatch::Kind::any) {
      return;
    }
    reporter_.error(where, key + ".prefix" + of_route() + " needs a route with a path prefix",
                    "use `path`, or match by `path: { prefix: … }`");
  }

  void rewrite(const Rewrite& rewrite) {
    path(rewrite.path, rewrite.where, "rewrite");
    if (rewrite.host.empty() && rewrite.path.kind == PathChange::Kind::none) {
      reporter_.error(rewrite.where, "rewrite" + of_route() + " changes nothing",
                      "give it `host`, `prefix` or `path`");
    }
    char memory[kMaxHostLength];
    if (!rewrite.host.empty() && !normalise_host(rewrite.host, memory)) {
      reporter_.error(rewrite.where, "rewrite.host" + of_route() + " is not a host",
                      "such as api.internal or api.internal:8080");
    }
  }

  void redirect(const Redirect& redirect) {
    path(redirect.path, redirect.where, "redirect");
    if (redirect.host.starts_with("*.")) {
      reporter_.error(redirect.where, "redirect.host" + of_route() + " is a pattern",
                      "one host, such as www.example.com");
    }
    if (redirect.scheme.empty() && redirect.host.empty() && redirect.port == 0 &&
        redirect.path.kind == PathChange::Kind::none) {
      reporter_.error(redirect.where, "redirect" + of_route() + " leads to itself",
                      "give it `scheme`, `host`, `port`, `prefix` or `path`");
    }
  }

  void direct_response(const DirectResponse& response) {
    if (response.body.empty() || (response.status != 204 && response.status != 304)) return;
    reporter_.error(response.where,
                    "direct_response" + of_route() + ": a " + std::to_string(response.status) +
                        " has no body",
                    "leave `body` out, or choose another status");
  }

  void cors(const Cors& cors) {
    for (const std::string& origin : cors.allow_origins) {
      if (is_origin_pattern(origin)) continue;
      reporter_.error(cors.where, "cors.allow_origins" + of_route() + ": `" + origin +
                                      "` is not an origin",
                      "such as https://app.example.com, https://*.example.com or `*`");
    }
    // Fetch (section 3.2.5) has browsers refuse `*` there, so that nobody trusts every page with
    // what its users may see; naming whichever page asks would be the same.
    if (cors.allow_credentials &&
        std::ranges::find(cors.allow_origins, "*") != cors.allow_origins.end()) {
      reporter_.error(cors.where,
                      "cors" + of_route() +
                          ": allow_credentials and any origin would let every page act "
                          "as its visitor",
                      "name the origins, such as https://*.example.com");
    }
  }

  const Route& route_;
  const RouteActions& actions_;
  Reporter& reporter_;
};

}  // namespace

void check_route_actions(const Config& config, Reporter& reporter) {
  for (const Route& route : config.routes)
    RouteActionsCheck(route, reporter).run();
}

}  // namespace sluice::policy
