#include "gateway/ai/error_body.h"

#include <algorithm>

#include <boost/json/array.hpp>

namespace sluice::gateway::ai {

const json::object* error_fields(const json::value& body) {
  const json::object* object = body.if_object();
  const json::value* error = object != nullptr ? object->if_contains("error") : nullptr;
  return error != nullptr ? error->if_object() : nullptr;
}

Problem problem_of(int status, const json::object* fields) {
  Problem problem{problem_kind(status),
                  "the provider answered with status " + std::to_string(status)};
  if (fields == nullptr) return problem;
  if (auto message = text_of(*fields, "message")) problem.message = std::move(*message);
  return problem;
}

bool refuses_key(const json::value& body) {
  // Its API in OpenAI's words puts errors into a list.
  const json::array* list = body.if_array();
  const bool first = list != nullptr && !list->empty();
  const json::object* fields = error_fields(first ? list->front() : body);
  const json::value* details = fields != nullptr ? fields->if_contains("details") : nullptr;
  if (details == nullptr || !details->is_array()) return false;
  return std::ranges::any_of(details->get_array(), [](const json::value& detail) {
    const json::object* object = detail.if_object();
    return object != nullptr && text_of(*object, "reason") == "API_KEY_INVALID";
  });
}

std::optional<std::string> text_of(const json::object& fields, std::string_view key) {
  const json::value* value = fields.if_contains(key);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

}  // namespace sluice::gateway::ai
