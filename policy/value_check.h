// Holds one value of the policy against its type and range: what is wrong with it, and what would
// be right.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "policy/schema.h"

namespace sluice::policy {

struct Problem {
  std::string what;  // continues "listeners.web.bind: "
  std::string hint;
};
using Verdict = std::optional<Problem>;  // nullopt: good

// Of any type but object. A regular expression's syntax and references are the tree's affair.
Verdict check_value(const Field& field, const std::string& text);
Verdict check_name(const std::string& text);
Verdict check_text(const std::string& text);

// Short and on one line, whatever the file holds; never half a UTF-8 character.
std::string printable(std::string_view text);
std::string in_backticks(std::string_view text);  // `so`

}  // namespace sluice::policy
