#include "gateway/ai/json_text.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <utility>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace sluice::gateway::ai {
namespace {

namespace json = boost::json;

constexpr int kMaxDepth = 64;

bool ends_plain(char c) {
  return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
}

// The first byte from `at` on that ends a string, escapes another one or may not be in it. Prompts
// are long, and keys many: sixteen bytes are looked at together …
#ifdef __SSE2__
std::size_t plain_end(std::string_view text, std::size_t at) {
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i control = _mm_set1_epi8(0x1f);
  for (; at + sizeof quote <= text.size(); at += sizeof quote) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at));
    const __m128i ends =
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)),
                     _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes));
    if (const auto found = static_cast<unsigned>(_mm_movemask_epi8(ends)); found != 0)
      return at + static_cast<std::size_t>(std::countr_zero(found));
  }
  while (at < text.size() && !ends_plain(text[at]))
    ++at;
  return at;
}
#else
// … or eight, for one that is below 0x20 as they are, or 0 less what is looked for.
std::size_t plain_end(std::string_view text, std::size_t at) {
  constexpr std::uint64_t kEach = 0x0101010101010101;
  const auto below = [](std::uint64_t word, std::uint64_t bound) {
    return (word - kEach * bound) & ~word & (kEach * 0x80);
  };
  std::uint64_t word = 0;
  for (; at + sizeof word <= text.size(); at += sizeof word) {
    std::memcpy(&word, text.data() + at, sizeof word);
    if ((below(word, 0x20) | below(word ^ (kEach * '"'), 1) | below(word ^ (kEach * '\\'), 1)) != 0)
      break;
  }
  while (at < text.size() && !ends_plain(text[at]))
    ++at;
  return at;
}
#endif

bool ends_scalar(char c) {
  return c == ',' || c == ']' || c == '}' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Goes over values without keeping them.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  std::size_t at() const { return at_; }
  bool at_end() const { return at_ == text_.size(); }
  void space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }
  bool take(char wanted) {
    space();
    if (at_end() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  // The string with its quotes.
  std::optional<std::string_view> string() {
    space();
    const std::size_t begin = at_;
    if (at_end() || text_[at_] != '"') return std::nullopt;
    for (at_ = plain_end(text_, at_ + 1); at_ < text_.size(); at_ = plain_end(text_, at_ + 1)) {
      if (text_[at_] == '\\') {
        ++at_;
      } else if (text_[at_] == '"') {
        ++at_;
        return text_.substr(begin, at_ - begin);
      } else {
        return std::nullopt;
      }
    }
    return std::nullopt;
  }
  bool value(int depth = 0) {
    space();
    if (at_end() || depth > kMaxDepth) return false;
    switch (text_[at_]) {
      case '"':
        return string().has_value();
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      default:
        return scalar();
    }
  }

 private:
  bool object(int depth) {
    take('{');
    if (take('}')) return true;
    do {
      if (!string() || !take(':') || !value(depth + 1)) return false;
    } while (take(','));
    return take('}');
  }
  bool array(int depth) {
    take('[');
    if (take(']')) return true;
    do {
      if (!value(depth + 1)) return false;
    } while (take(','));
    return take(']');
  }
  bool scalar() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && !ends_scalar(text_[at_]))
      ++at_;
    const std::string_view word = text_.substr(begin, at_ - begin);
    if (word == "true" || word == "false" || word == "null") return true;
    return !word.empty() && word.find_first_not_of("0123456789+-.eE") == std::string_view::npos;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

bool has_escapes(std::string_view written) {
  return written.find('\\') != std::string_view::npos;
}

std::optional<std::string> unquoted(std::string_view quoted) {
  if (quoted.size() < 2 || quoted.front() != '"') return std::nullopt;
  if (!has_escapes(quoted)) return std::string(quoted.substr(1, quoted.size() - 2));
  boost::system::error_code error;
  const json::value value = json::parse(quoted, error);
  if (error || !value.is_string()) return std::nullopt;
  return std::string(value.get_string());
}

// Keys are hardly ever written with escapes. `quoted`: a string.
bool says(std::string_view quoted, std::string_view key) {
  if (!has_escapes(quoted)) return quoted.substr(1, quoted.size() - 2) == key;
  return unquoted(quoted) == key;
}

char small(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

// As Go's readers see a key, and so several servers of models: `Model` is `model` to them, of which
// they take the last, and the long s and the Kelvin sign are letters as well. Nullopt: no Unicode.
std::optional<std::string> folded(std::string_view quoted) {
  auto text = unquoted(quoted);
  if (!text) return std::nullopt;
  for (const auto& [sign, letter] : {std::pair<std::string_view, char>{"\xc5\xbf", 's'},
                                     std::pair<std::string_view, char>{"\xe2\x84\xaa", 'k'}}) {
    for (std::size_t at = text->find(sign); at != std::string::npos; at = text->find(sign, at))
      text->replace(at, sign.size(), 1, letter);
  }
  std::ranges::transform(*text, text->begin(), small);
  return text;
}

// Whether folded(quoted) is `key`, without a copy as a rule.
bool says_folded(std::string_view quoted, std::string_view key) {
  const std::string_view written = quoted.substr(1, quoted.size() - 2);
  for (std::size_t i = 0; i < written.size(); ++i) {
    if (written[i] == '\\' || static_cast<unsigned char>(written[i]) >= 0x80)
      return folded(quoted) == key;
    if (i >= key.size() || small(written[i]) != key[i]) return false;
  }
  return written.size() == key.size();
}

}  // namespace

std::optional<JsonText> JsonText::scan(std::string_view text) {
  constexpr std::size_t kUsual = 8;  // members
  constexpr std::size_t kFew = 32;   // so many keys are compared with each other
  JsonText out;
  out.text_ = text;
  out.members_.reserve(kUsual);
  Scanner scanner(text);
  if (!scanner.take('{')) return std::nullopt;
  out.first_ = scanner.at();
  if (!scanner.take('}')) {
    do {
      const auto key = scanner.string();
      if (!key || !scanner.take(':')) return std::nullopt;
      scanner.space();
      const std::size_t at = scanner.at();
      if (!scanner.value()) return std::nullopt;
      if (out.members_.size() < kFew && out.repeats(*key)) return std::nullopt;
      out.members_.push_back({*key, at, scanner.at() - at});
    } while (scanner.take(','));
    if (!scanner.take('}')) return std::nullopt;
  }
  scanner.space();
  if (!scanner.at_end()) return std::nullopt;
  if (out.members_.size() > kFew && out.repeats_any()) return std::nullopt;
  return out;
}

// True also for one that is no string of Unicode.
bool JsonText::repeats(std::string_view key) const {
  const auto meant = folded(key);
  if (!meant) return true;
  return std::ranges::any_of(members_,
                             [&](const Member& one) { return says_folded(one.key, *meant); });
}

// Of many keys: they are sorted, since hashes could be made to collide.
bool JsonText::repeats_any() const {
  std::vector<std::string> keys;
  keys.reserve(members_.size());
  for (const Member& one : members_) {
    auto meant = folded(one.key);
    if (!meant) return true;
    keys.push_back(std::move(*meant));
  }
  std::ranges::sort(keys);
  return std::ranges::adjacent_find(keys) != keys.end();
}

const JsonText::Member* JsonText::member(std::string_view key) const {
  const auto found =
      std::ranges::find_if(members_, [&](const Member& one) { return says(one.key, key); });
  return found == members_.end() ? nullptr : &*found;
}

std::optional<std::string_view> JsonText::find(std::string_view key) const {
  const Member* found = member(key);
  if (found == nullptr) return std::nullopt;
  return text_.substr(found->at, found->size);
}

std::optional<std::string> JsonText::string(std::string_view key) const {
  const auto value = find(key);
  return value ? unquoted(*value) : std::nullopt;
}

std::optional<long long> JsonText::integer(std::string_view key) const {
  const auto value = find(key);
  long long number = 0;
  if (!value) return std::nullopt;
  const auto read = std::from_chars(value->data(), value->data() + value->size(), number);
  if (read.ec != std::errc{} || read.ptr != value->data() + value->size()) return std::nullopt;
  return number;
}

void JsonText::set(std::string_view key, std::string value) {
  Edit edit{first_, 0, std::move(value)};
  if (const Member* found = member(key)) {
    edit.at = found->at;
    edit.size = found->size;
  } else {
    edit.text = json_string(key) + ':' + edit.text + (members_.empty() ? "" : ",");
  }
  const auto place = std::ranges::upper_bound(edits_, edit.at, {}, &Edit::at);
  edits_.insert(place, std::move(edit));
}

std::string JsonText::text() const {
  std::string out;
  std::size_t at = 0;
  for (const Edit& edit : edits_) {
    out.append(text_.substr(at, edit.at - at)).append(edit.text);
    at = edit.at + edit.size;
  }
  return out.append(text_.substr(at));
}

std::string json_string(std::string_view text) {
  return json::serialize(json::value(json::string(text)));
}

}  // namespace sluice::gateway::ai
