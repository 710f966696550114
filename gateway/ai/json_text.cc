#include "gateway/ai/json_text.h"

#include <algorithm>
#include <array>
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
const char* plain_end(const char* at, const char* end) {
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i control = _mm_set1_epi8(0x1f);
  constexpr std::ptrdiff_t kTogether = sizeof quote;
  for (; end - at >= kTogether; at += kTogether) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i ends =
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)),
                     _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes));
    if (const auto found = static_cast<unsigned>(_mm_movemask_epi8(ends)); found != 0)
      return at + std::countr_zero(found);
  }
  while (at != end && !ends_plain(*at))
    ++at;
  return at;
}
#else
// … or eight, for one that is below 0x20 as they are, or 0 less what is looked for.
const char* plain_end(const char* at, const char* end) {
  constexpr std::uint64_t kEach = 0x0101010101010101;
  const auto below = [](std::uint64_t word, std::uint64_t bound) {
    return (word - kEach * bound) & ~word & (kEach * 0x80);
  };
  std::uint64_t word = 0;
  constexpr std::ptrdiff_t kTogether = sizeof word;
  for (; end - at >= kTogether; at += kTogether) {
    std::memcpy(&word, at, sizeof word);
    if ((below(word, 0x20) | below(word ^ (kEach * '"'), 1) | below(word ^ (kEach * '\\'), 1)) != 0)
      break;
  }
  while (at != end && !ends_plain(*at))
    ++at;
  return at;
}
#endif

constexpr std::array<std::string_view, 3> kWords{"true", "false", "null"};

enum : std::uint8_t { kSpace = 1, kNumeric = 2, kEndsScalar = 4 };

constexpr std::array<std::uint8_t, 256> kKinds = [] {
  std::array<std::uint8_t, 256> kinds{};
  const auto add = [&](std::string_view bytes, std::uint8_t kind) {
    for (const char c : bytes)
      kinds[static_cast<unsigned char>(c)] |= kind;
  };
  add(" \t\r\n", kSpace | kEndsScalar);
  add(",]}", kEndsScalar);
  add("0123456789+-.eE", kNumeric);
  return kinds;
}();

bool is(char c, std::uint8_t kind) {
  return (kKinds[static_cast<unsigned char>(c)] & kind) != 0;
}

// Goes over values without keeping them.
class Scanner {
 public:
  explicit Scanner(std::string_view text)
      : begin_(text.data()), at_(begin_), end_(begin_ + text.size()) {}

  std::size_t at() const { return static_cast<std::size_t>(at_ - begin_); }
  bool at_end() const { return at_ == end_; }
  void space() {
    while (at_ != end_ && is(*at_, kSpace))
      ++at_;
  }
  bool take(char wanted) {
    if (next() != wanted) return false;
    ++at_;
    return true;
  }
  // What is between the string's quotes; nullopt: there is none.
  std::optional<std::string_view> string() {
    if (next() != '"') return std::nullopt;
    const char* const begin = at_ + 1;
    if (!pass_string()) return std::nullopt;
    return std::string_view(begin, at_ - 1);
  }
  bool value(int depth = 0) {
    if (depth > kMaxDepth) return false;
    switch (next()) {
      case '"':
        return pass_string();
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      default:
        return scalar();
    }
  }

 private:
  // The first that is no space; 0, which is nothing in JSON, at the end.
  char next() {
    if (at_ != end_ && *at_ > ' ') return *at_;
    space();
    return at_end() ? '\0' : *at_;
  }
  // From its first quote on.
  bool pass_string() {
    for (++at_;; ++at_) {
      at_ = plain_end(at_, end_);
      if (at_ == end_) return false;
      const char c = *at_++;
      if (c == '"') return true;
      if (c != '\\' || at_ == end_) return false;
    }
  }
  bool object(int depth) {
    ++at_;
    if (take('}')) return true;
    do {
      if (next() != '"' || !pass_string() || !take(':') || !value(depth + 1)) return false;
    } while (take(','));
    return take('}');
  }
  bool array(int depth) {
    ++at_;
    if (take(']')) return true;
    do {
      if (!value(depth + 1)) return false;
    } while (take(','));
    return take(']');
  }
  bool scalar() {
    const char* const begin = at_;
    while (at_ != end_ && is(*at_, kNumeric))
      ++at_;
    if (at_ != begin) return ends_scalar();
    const std::string_view rest(at_, end_);
    for (const std::string_view word : kWords) {
      if (!rest.starts_with(word)) continue;
      at_ += word.size();
      return ends_scalar();
    }
    return false;
  }
  bool ends_scalar() const { return at_end() || is(*at_, kEndsScalar); }

  const char* begin_;
  const char* at_;
  const char* end_;
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

// Of a key, which has them in the text.
std::string_view with_quotes(std::string_view key) {
  return {key.data() - 1, key.size() + 2};
}

char small(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

// ASCII without escapes, as nearly all keys are: it is its own meaning. Eight bytes are looked at
// together.
bool is_plain(std::string_view text) {
  constexpr std::uint64_t kEach = 0x0101010101010101;
  std::uint64_t high = 0;
  std::uint64_t word = 0;
  std::size_t at = 0;
  for (; at + sizeof word <= text.size(); at += sizeof word) {
    std::memcpy(&word, text.data() + at, sizeof word);
    const std::uint64_t backslashes = word ^ (kEach * '\\');
    high |= word | ((backslashes - kEach) & ~backslashes);
  }
  for (; at < text.size(); ++at)
    if (text[at] == '\\' || (text[at] & 0x80) != 0) return false;
  return (high & (kEach * 0x80)) == 0;
}

// Both plain.
bool same_but_for_case(std::string_view one, std::string_view other) {
  if (one.size() != other.size()) return false;
  for (std::size_t i = 0; i < one.size(); ++i)
    if (one[i] != other[i] && small(one[i]) != small(other[i])) return false;
  return true;
}

// As Go's readers see a key, and so several servers of models: `Model` is `model` to them, of which
// they take the last, and the long s and the Kelvin sign are letters as well. Nullopt: no Unicode.
std::optional<std::string> folded(std::string_view key) {
  auto text = unquoted(with_quotes(key));
  if (!text) return std::nullopt;
  for (const auto& [sign, letter] : {std::pair<std::string_view, char>{"\xc5\xbf", 's'},
                                     std::pair<std::string_view, char>{"\xe2\x84\xaa", 'k'}}) {
    for (std::size_t at = text->find(sign); at != std::string::npos; at = text->find(sign, at))
      text->replace(at, sign.size(), 1, letter);
  }
  std::ranges::transform(*text, text->begin(), small);
  return text;
}

// Whether folded(written) is `key`, without a copy as a rule.
bool says_folded(std::string_view written, std::string_view key) {
  for (std::size_t i = 0; i < written.size(); ++i) {
    if (written[i] == '\\' || static_cast<unsigned char>(written[i]) >= 0x80)
      return folded(written) == key;
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
      const Member member{*key, is_plain(*key), at, scanner.at() - at};
      if (out.members_.size() < kFew && out.repeats(member)) return std::nullopt;
      out.plain_ = out.plain_ && member.plain;
      out.members_.push_back(member);
    } while (scanner.take(','));
    if (!scanner.take('}')) return std::nullopt;
  }
  scanner.space();
  if (!scanner.at_end()) return std::nullopt;
  if (out.members_.size() > kFew && out.repeats_any()) return std::nullopt;
  return out;
}

// True also for one that is no string of Unicode.
bool JsonText::repeats(const Member& key) const {
  if (key.plain && plain_) {
    return std::ranges::any_of(
        members_, [&](const Member& one) { return same_but_for_case(one.key, key.key); });
  }
  const auto meant = folded(key.key);
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
  const auto says = [&](const Member& one) {
    return one.plain ? one.key == key : unquoted(with_quotes(one.key)) == key;
  };
  const auto found = std::ranges::find_if(members_, says);
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

std::optional<std::int64_t> JsonText::integer(std::string_view key) const {
  const auto value = find(key);
  return value ? whole_number(*value) : std::nullopt;
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

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string json_string(std::string_view text) {
  return json::serialize(json::value(json::string(text)));
}

}  // namespace sluice::gateway::ai
