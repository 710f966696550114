// Messages with values in them. g++ 12 has no <format>; "{}" is all that messages need.
#pragma once

#include <sstream>
#include <string>
#include <string_view>

namespace sluice::kernel {

// Replaces each "{}" by the next value; values without a place are appended nowhere.
template <typename... Values>
std::string message(std::string_view pattern, const Values&... values) {
  std::ostringstream text;
  const auto until_place = [&] {
    const auto place = pattern.find("{}");
    text << pattern.substr(0, place);
    pattern.remove_prefix(place == std::string_view::npos ? pattern.size() : place + 2);
  };
  ((until_place(), text << values), ...);
  text << pattern;
  return text.str();
}

}  // namespace sluice::kernel
