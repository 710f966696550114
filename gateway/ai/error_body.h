// A provider's answer that says what went wrong, as far as all shapes say it alike.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "gateway/ai/problem.h"

namespace sluice::gateway::ai {

namespace json = boost::json;

// The object under "error"; null: there is none.
const json::object* error_fields(const json::value& body);
// `fields`: of the error; null: the status is all there is.
Problem problem_of(int status, const json::object* fields);
// Google says 400 to a key that it does not know; the reason is in a detail.
bool refuses_key(const json::value& body);
std::optional<std::string> text_of(const json::object& fields, std::string_view key);

}  // namespace sluice::gateway::ai
