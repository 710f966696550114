#pragma once

#include <string_view>

#include <boost/json/object.hpp>

namespace sluice::gateway {

// "" where the field is missing or no string. Lives as long as the object.
inline std::string_view text_in(const boost::json::object& object, std::string_view key) {
  const boost::json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_string()) return {};
  return value->get_string();
}

}  // namespace sluice::gateway
