#pragma once

#include <string>
#include <string_view>

#include "gateway/json_fields.h"

namespace sluice::control {

// "" where the key is missing or no string.
inline std::string text_of(const boost::json::object& object, std::string_view key) {
  return std::string(gateway::text_in(object, key));
}

}  // namespace sluice::control
