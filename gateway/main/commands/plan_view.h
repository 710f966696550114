// A plan, for people.
#pragma once

#include <boost/json.hpp>

namespace sluice::control {

void show_plan(const boost::json::object& plan);

}  // namespace sluice::control
