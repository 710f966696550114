// Members of a stream's event, as the redactor's parts look for them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

namespace sluice::gateway::ai {

namespace json = boost::json;

inline constexpr std::string_view kDelta = "delta";

inline json::object* object_at(json::object& holder, std::string_view key) {
  json::value* value = holder.if_contains(key);
  return value != nullptr ? value->if_object() : nullptr;
}

inline json::array* array_at(json::object& holder, std::string_view key) {
  json::value* value = holder.if_contains(key);
  return value != nullptr ? value->if_array() : nullptr;
}

inline std::string number_at(const json::object& holder, std::string_view key) {
  const json::value* value = holder.if_contains(key);
  return value != nullptr && value->is_int64() ? std::to_string(value->get_int64()) : "0";
}

inline std::string_view string_at(const json::object& holder, std::string_view key) {
  const json::value* value = holder.if_contains(key);
  return value != nullptr && value->is_string() ? std::string_view(value->get_string())
                                                : std::string_view();
}

inline bool is_set(const json::object& holder, std::string_view key) {
  const json::value* value = holder.if_contains(key);
  return value != nullptr && !value->is_null();
}

template <std::size_t kSize>
bool is_one_of(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

// What an event is, by its name and by what its members say.
inline std::string kind_of(const json::object& event, std::string_view name) {
  std::string kind(name);
  for (const std::string_view word : {"type", "event_type", "object"})
    kind.append("/").append(string_at(event, word));
  return kind;
}

}  // namespace sluice::gateway::ai
