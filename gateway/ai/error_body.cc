#include "gateway/ai/error_body.h"

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

std::optional<std::string> text_of(const json::object& fields, std::string_view key) {
  const json::value* value = fields.if_contains(key);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

}  // namespace sluice::gateway::ai
