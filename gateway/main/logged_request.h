// A request of the access log, asked about again.
#pragma once

#include <expected>
#include <string>

#include <boost/json.hpp>

namespace sluice::control {

// The question for the line of `log` (JSON lines) with this "CONNECTION/REQUEST"; the last one,
// when numbers began anew. "logged" is what happened then (logged_outcome.h). What the log does not
// keep (query, header fields) is missing from the question. The error names the file.
std::expected<boost::json::object, std::string> question_from_log(const std::string& log,
                                                                  const std::string& id);
// The same for one line.
std::expected<boost::json::object, std::string> question_from_line(const boost::json::object& line);

}  // namespace sluice::control
