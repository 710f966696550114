// Classes of octets, one table look-up each (RFC 9110 section 5.6, RFC 3986 section 2).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sluice::gateway::http1 {

enum Octet : std::uint8_t {
  kToken = 1,       // tchar
  kPath = 2,        // may stand in a path: visible ASCII but " # < > ? backslash
  kQuery = 4,       // may stand in a query: visible ASCII but #
  kUnreserved = 8,  // letters, digits, - . _ ~
  kHostName = 16,   // letters, digits, - . _
  kHex = 32,
  kDigit = 64,
};

inline constexpr std::array<std::uint8_t, 256> kOctets = [] {
  std::array<std::uint8_t, 256> table{};
  auto mark = [&](std::string_view octets, std::uint8_t classes) {
    for (char c : octets)
      table[static_cast<unsigned char>(c)] |= classes;
  };
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr std::string_view kDigits = "0123456789";
  for (int c = 0x21; c < 0x7f; ++c) {
    const char octet = static_cast<char>(c);
    if (octet != '#') table[static_cast<std::size_t>(c)] |= kQuery;
    if (std::string_view("\"#<>?\\").find(octet) == std::string_view::npos) {
      table[static_cast<std::size_t>(c)] |= kPath;
    }
  }
  mark(kLetters, kToken | kUnreserved | kHostName);
  mark(kDigits, kToken | kUnreserved | kHostName | kHex | kDigit);
  mark("!#$%&'*+-.^_`|~", kToken);
  mark("-._~", kUnreserved);
  mark("-._", kHostName);
  mark("abcdefABCDEF", kHex);
  return table;
}();

constexpr bool is(char c, std::uint8_t classes) {
  return (kOctets[static_cast<unsigned char>(c)] & classes) != 0;
}

constexpr bool all_are(std::string_view text, std::uint8_t classes) {
  for (char c : text) {
    if (!is(c, classes)) return false;
  }
  return true;
}

// ASCII.
constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

// Of a kHex octet.
constexpr unsigned hex_value(char c) {
  return c <= '9' ? static_cast<unsigned>(c - '0') : static_cast<unsigned>((c | 0x20) - 'a' + 10);
}

constexpr bool is_ows(char c) {
  return c == ' ' || c == '\t';
}

constexpr std::string_view trim_ows(std::string_view text) {
  while (!text.empty() && is_ows(text.front()))
    text.remove_prefix(1);
  while (!text.empty() && is_ows(text.back()))
    text.remove_suffix(1);
  return text;
}

// Calls `take` with each element of a comma-separated list (RFC 9110 section 5.6.1), white space
// trimmed, empty ones included; stops when it returns false. Quoted strings are not looked into:
// none of our lists has them.
template <typename Take>
constexpr bool for_each_element(std::string_view list, Take take) {
  while (true) {
    const std::size_t comma = list.find(',');
    if (!take(trim_ows(list.substr(0, comma)))) return false;
    if (comma == std::string_view::npos) return true;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace sluice::gateway::http1
