// One text for all ways to write the same JSON value.
#pragma once

#include <string>

#include <boost/json/value.hpp>

namespace sluice::gateway::ai {

// Members by their names, no space between. Numbers stay what they are: 1 and 1.0 differ.
std::string canonical_json(const boost::json::value& value);

}  // namespace sluice::gateway::ai
