// What was decided of a request of the access log, told apart from what would be decided now.
#pragma once

#include <cstdint>

#include <boost/json.hpp>

#include "policy/config.h"

namespace sluice::control {

// Of the "logged" of a question (question_from_line), as strings but for `status`: "text" (one
// line, for people), "time", "kind", "listener", "route", "upstream", "endpoint", "reason".
//
// `now`: the answer of explain() to the question, by what runs or by a policy alone; one that is
// not ok (a path that is refused with 400) says why nothing is known of now. The outcome, the
// verdict and the status of what comes back are the logged ones; and it has "logged" (the text),
// "decided"
// {"outcome", "status"?, "reason"?, "route"?, "places": [{"text", "where"?}]}, where the policy of
// now speaks of what the log names, and "now" {"by": "live" | "policy", "outcome", "verdict"?,
// "status"?, "passes"?, "unknown": [text]}: what a rule looks at and no log keeps. Steps are those
// of now, up to the first that the log cannot tell.
enum class NowBy : std::uint8_t { live, policy };
boost::json::object with_logged(boost::json::object now, const boost::json::object& logged,
                                const policy::Config& config, NowBy by);

}  // namespace sluice::control
