#include "gateway/ai/filter/json_filter.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <boost/json/parse.hpp>

#include "gateway/ai/json_text.h"

namespace sluice::gateway::ai {

namespace json = boost::json;

namespace {

constexpr std::array<std::string_view, 8> kOpaque{"id",    "call_id", "tool_call_id", "tool_use_id",
                                                  "model", "type",    "role",         "object"};
// Of what these hold, only what cannot be words: documents are also plain text, and tools have
// arguments by any name.
constexpr std::array<std::string_view, 2> kMedia{"data", "b64_json"};
constexpr std::array<std::string_view, 4> kSeals{"signature", "thoughtSignature",
                                                 "thought_signature", "encrypted_content"};
constexpr std::size_t kLeastMedia = 256;  // bytes; keys are of such letters as well, and shorter

template <std::size_t kSize>
bool contains(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

// Both alphabets of RFC 4648, and `more`.
bool is_base64(std::string_view value, std::string_view more = {}) {
  return std::ranges::all_of(value, [&](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           std::string_view("+/=-_").contains(c) || more.contains(c);
  });
}

// The end of the string that begins at `at`, behind its quote; npos: it has none.
std::size_t string_end(std::string_view text, std::size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return std::string_view::npos;
}

std::string decoded(std::string_view literal) {
  if (literal.find('\\') == std::string_view::npos)
    return std::string(literal.substr(1, literal.size() - 2));
  const auto value = parse_leniently(literal);
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

// RFC 2397, as media are sent. A text may begin with that word as well.
bool is_data_url(std::string_view value) {
  constexpr std::size_t kMostOfType = 128;
  constexpr std::string_view kCoding = ";base64,";
  if (!value.starts_with("data:")) return false;
  const std::size_t coding = value.substr(0, kMostOfType).find(kCoding);
  return coding != std::string_view::npos &&
         value.find_first_of(" @\t\r\n") == std::string_view::npos;
}

// The number that `\uXXXX` at `at` stands for; -1: there is none.
int escaped_unit(std::string_view text, std::size_t at) {
  constexpr std::size_t kSize = 6;
  if (at + kSize > text.size() || text[at] != '\\' || text[at + 1] != 'u') return -1;
  int unit = 0;
  const char* end = text.data() + at + kSize;
  const auto read = std::from_chars(text.data() + at + 2, end, unit, 16);
  return read.ec == std::errc{} && read.ptr == end && unit >= 0 ? unit : -1;
}
bool is_high(int unit) {
  return unit >= 0xd800 && unit <= 0xdbff;
}
bool is_low(int unit) {
  return unit >= 0xdc00 && unit <= 0xdfff;
}

// Halves of characters become the sign of what was lost.
std::string with_whole_characters(std::string_view text) {
  constexpr std::size_t kSize = 6;
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t size = text[at] == '\\' ? 2 : 1;
    const int unit = escaped_unit(text, at);
    if (is_high(unit) && is_low(escaped_unit(text, at + kSize))) {
      size = 2 * kSize;
    } else if (is_high(unit) || is_low(unit)) {
      out.append("\\ufffd");
      at += kSize;
      continue;
    }
    out.append(text.substr(at, size));
    at += size;
  }
  return out;
}

}  // namespace

std::optional<json::value> parse_leniently(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (!error) return value;
  json::parse_options options;
  options.allow_invalid_utf8 = true;
  value = json::parse(with_whole_characters(text), error, {}, options);
  if (error) return std::nullopt;
  return value;
}

bool is_opaque(std::string_view member, std::string_view value) {
  if (contains(kOpaque, member) || is_data_url(value)) return true;
  if (contains(kMedia, member)) return value.size() >= kLeastMedia && is_base64(value);
  return contains(kSeals, member) && is_base64(value, ".:");
}

bool filter_json(const TextFilter& filter, std::string& text, Findings& findings) {
  std::string out;
  std::string member;
  std::size_t copied = 0;
  for (std::size_t at = text.find('"'); at != std::string::npos; at = text.find('"', at)) {
    const std::size_t end = string_end(text, at);
    if (end == std::string::npos) break;
    std::string value = decoded(std::string_view(text).substr(at, end - at));
    const std::size_t next = text.find_first_not_of(" \t\r\n", end);
    if (next != std::string::npos && text[next] == ':') {
      member = std::move(value);
    } else if (!is_opaque(member, value) && filter.redact(value, findings)) {
      out.append(text, copied, at - copied).append(json_string(value));
      copied = end;
    }
    at = end;
  }
  if (copied == 0) return false;
  out.append(text, copied);
  text = std::move(out);
  return true;
}

}  // namespace sluice::gateway::ai
