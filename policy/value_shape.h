// What a value of each type of the schema looks like, for what is made from the table: the JSON
// Schema and the reference.
#pragma once

#include <string>
#include <string_view>

#include "policy/schema.h"

namespace sluice::policy {

struct ValueShape {
  std::string_view title;    // "duration", as the reference names it
  std::string_view pattern;  // an ECMA 262 regular expression; "": none
  bool text = true;          // YAML may read it as a string
  bool integer = false;      // … as a whole number
  bool decimal = false;      // … as a number with decimals
  bool boolean = false;
};

ValueShape shape_of(Type type);

// Of a list: nothing, or an empty one, would quietly mean any.
bool needs_some(const Field& list);

// "1 to 64", "100ms to 1h", "at least 1"; "" where the type alone says it.
std::string range_of(const Field& field);

}  // namespace sluice::policy
