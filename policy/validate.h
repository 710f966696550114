// What a schema cannot say: that rules do not contradict each other, that a rule
// can match at all.
#pragma once

#include "policy/config.h"
#include "policy/yaml_tree.h"

namespace sluice::policy {

// Reports into `reporter`. `config` is complete(); it may hold defaults where check() has refused a
// value.
void cross_check(const Config& config, Reporter& reporter);

// The parts, one file a concern.
void check_listeners_named(const Config& config, Reporter& reporter);
void check_routes(const Config& config, Reporter& reporter);
void check_route_actions(const Config& config, Reporter& reporter);
void check_ai(const Config& config, Reporter& reporter);
void check_auth(const Config& config, Reporter& reporter);
void check_upstreams(const Config& config, Reporter& reporter);
void check_limits(const Config& config, Reporter& reporter);
void check_bans(const Config& config, Reporter& reporter);
void check_access(const Config& config, Reporter& reporter);
void check_interception(const Config& config, Reporter& reporter);
void check_kubernetes(const Config& config, Reporter& reporter);
void check_tls(const Config& config, Reporter& reporter);
void check_express(const Config& config, Reporter& reporter);  // express.cc
void check_observability(const Config& config, Reporter& reporter);
void check_guard(const Config& config, Reporter& reporter);
void check_idle(const Config& config, Reporter& reporter);

}  // namespace sluice::policy
