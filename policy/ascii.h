// Texts whose case does not count, as header fields' names and values have them.
#pragma once

#include <algorithm>
#include <string_view>

namespace sluice::policy {

constexpr char ascii_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

constexpr char ascii_upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c & ~0x20) : c;
}

// `lowered` is in lower case.
constexpr bool same_but_for_case(std::string_view text, std::string_view lowered) {
  return std::ranges::equal(text, lowered, {}, ascii_lower);
}

}  // namespace sluice::policy
