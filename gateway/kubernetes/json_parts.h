// Parts of the API's objects, where they are what they should be.
#pragma once

#include <string_view>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gateway/json_fields.h"

namespace sluice::gateway::kubernetes {

// Null where the field is missing or another thing. Both live as long as the object.
inline const boost::json::object* object_in(const boost::json::object& object,
                                            std::string_view key) {
  const boost::json::value* found = object.if_contains(key);
  return found != nullptr ? found->if_object() : nullptr;
}

inline const boost::json::array* array_in(const boost::json::object& object,
                                          std::string_view key) {
  const boost::json::value* found = object.if_contains(key);
  return found != nullptr ? found->if_array() : nullptr;
}

// "" where a step is missing.
inline std::string_view text_in(const boost::json::object& object, std::string_view part,
                                std::string_view key) {
  const boost::json::object* found = object_in(object, part);
  return found != nullptr ? gateway::text_in(*found, key) : std::string_view();
}

using gateway::text_in;

}  // namespace sluice::gateway::kubernetes
