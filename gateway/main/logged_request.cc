#include "gateway/main/logged_request.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>

#include "policy/address.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

std::string value_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr) return {};
  return value->is_string() ? std::string(value->as_string()) : json::serialize(*value);
}

std::string without(std::string text, std::string_view mark) {
  if (text.ends_with(mark)) text.resize(text.size() - mark.size());
  return text;
}

// "17/3": connection and request; anything else is a request_id.
bool is_count(const std::string& id) {
  const std::size_t slash = id.find('/');
  return slash != 0 && slash != std::string::npos && slash + 1 < id.size() &&
         id.find_first_not_of("0123456789/") == std::string::npos &&
         id.find('/', slash + 1) == std::string::npos;
}

}  // namespace

std::expected<json::object, std::string> question_from_line(const json::object& line) {
  json::object question{{"command", "explain"}};
  const auto client = policy::SocketAddress::parse(value_of(line, "client"));
  if (!client) return std::unexpected("the line has no client");
  question["from"] = client->address.to_string();
  question["from_port"] = std::int64_t{client->port};
  if (const auto to = policy::SocketAddress::parse(value_of(line, "destination"))) {
    question["to"] = to->address.to_string();
    question["to_port"] = std::int64_t{to->port};
  }
  question["listener"] = value_of(line, "listener");
  question["way"] = value_of(line, "way");
  const std::string path = value_of(line, "path");
  if (!path.empty()) {
    question["method"] = value_of(line, "method");
    question["host"] = value_of(line, "host");
    question["url"] = without(without(path, "?…"), "…");
  }
  json::object logged;
  for (const char* key : {"time", "kind", "listener", "route", "upstream", "endpoint", "reason"})
    logged[key] = value_of(line, key);
  if (const json::value* status = line.if_contains("status"); status && status->is_int64())
    logged["status"] = *status;
  std::string text = "logged " + value_of(line, "time") + ": ";
  if (const std::string status = value_of(line, "status"); !status.empty())
    text += "status " + status + ", ";
  const std::string route = value_of(line, "route");
  text += route.empty() ? "no route" : "route `" + route + "`";
  if (const std::string upstream = value_of(line, "upstream"); !upstream.empty())
    text += ", upstream `" + upstream + "` " + value_of(line, "endpoint");
  if (const std::string reason = value_of(line, "reason"); !reason.empty())
    text += ", because: " + reason;
  text += path.find("…") == std::string::npos ? ". Header fields are not in the log."
                                              : ". Query and header fields are not in the log.";
  logged["text"] = std::move(text);
  question["logged"] = std::move(logged);
  return question;
}

std::expected<json::object, std::string> question_from_log(const std::string& log,
                                                           const std::string& id) {
  const bool counted = is_count(id);
  if (log.empty()) return std::unexpected("--request needs --log FILE, the access log");
  std::ifstream file(log);
  if (!file) return std::unexpected(log + ": " + std::strerror(errno));
  // Cheap to look for, before a line is parsed.
  const std::size_t slash = id.find('/');
  const std::string sign =
      counted ? "\"connection\":" + id.substr(0, slash) + ',' : "\"request_id\":\"" + id + '"';
  std::optional<json::object> found;
  for (std::string line; std::getline(file, line);) {
    if (line.find(sign) == std::string::npos) continue;
    boost::system::error_code error;
    const json::value parsed = json::parse(line, error);
    if (error || !parsed.is_object()) continue;
    const json::object& object = parsed.as_object();
    const bool same = counted ? value_of(object, "request") == id.substr(slash + 1)
                              : value_of(object, "request_id") == id;
    if (same) found = object;
  }
  if (!found)
    return std::unexpected(log + ": no line of " +
                           (counted ? "connection/request " : "request_id ") + id +
                           " (format json)");
  return question_from_line(*found);
}

}  // namespace sluice::control
