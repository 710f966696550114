// Conditions that several sections share.
#pragma once

#include <string>

namespace sluice::policy {

// On a header field or a query parameter.
struct ValueMatch {
  enum class Kind { present, absent, exact, regex };
  std::string name;  // header fields: lower case
  Kind kind = Kind::present;
  std::string value;  // exact, regex
  bool operator==(const ValueMatch&) const = default;
};

}  // namespace sluice::policy
