#include "gateway/ai/plain_counts.h"

namespace sluice::gateway::ai {

namespace {

// What is meant as it is written.
constexpr std::array<bool, 256> kInKeys = [] {
  std::array<bool, 256> in_keys{};
  for (std::size_t c = ' '; c < 0x7f; ++c)
    in_keys[c] = c != '"' && c != '\\';
  return in_keys;
}();

}  // namespace

class PlainCounts::Reader {
 public:
  Reader(std::string_view text, PlainCounts& out)
      : at_(text.data()), end_(text.data() + text.size()), out_(out) {}

  bool read() { return object(kNone) && next() == '\0' && at_ == end_; }

 private:
  using Kind = Object::Kind;

  // The first that is no space; 0 at the end.
  char next() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r'))
      ++at_;
    return at_ != end_ ? *at_ : '\0';
  }
  bool take(char wanted) {
    if (next() != wanted) return false;
    ++at_;
    return true;
  }
  bool object(std::size_t holder) {
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      if (!member(holder)) return false;
    } while (take(','));
    return take('}');
  }
  // Of a key that is there twice a parser takes the last one: that is for it to do.
  bool member(std::size_t holder) {
    if (out_.size_ == kMost) return false;
    const auto key = this->key();
    if (!key || !take(':') || out_.find(*key, holder) != kNone) return false;
    const std::size_t index = out_.size_++;
    Entry& entry = out_.entries_[index];
    entry = {key->data(), key->size(), holder, 0, Kind::number};
    switch (next()) {
      case '{':
        entry.kind = Kind::object;
        return holder == kNone && object(index);
      case 'n':
        entry.kind = Kind::null;
        return null();
      default:
        return number(entry.number);
    }
  }
  // Of ASCII, without escapes.
  std::optional<std::string_view> key() {
    if (!take('"')) return std::nullopt;
    const char* const begin = at_;
    while (at_ != end_ && kInKeys[static_cast<unsigned char>(*at_)])
      ++at_;
    if (at_ == end_ || *at_ != '"') return std::nullopt;
    ++at_;
    return std::string_view(begin, at_ - 1);
  }
  bool null() {
    constexpr std::string_view kNull = "null";
    if (!std::string_view(at_, end_).starts_with(kNull)) return false;
    at_ += kNull.size();
    return true;
  }
  // What is longer may be no count at all.
  bool number(std::int64_t& out) {
    constexpr std::ptrdiff_t kMostDigits = 12;
    const char* const begin = at_;
    for (; at_ != end_ && *at_ >= '0' && *at_ <= '9' && at_ - begin < kMostDigits; ++at_)
      out = out * 10 + (*at_ - '0');
    return at_ != begin && (*begin != '0' || at_ - begin == 1);
  }

  const char* at_;
  const char* end_;
  PlainCounts& out_;
};

bool PlainCounts::read(std::string_view text) {
  size_ = 0;
  return Reader(text, *this).read();
}

std::size_t PlainCounts::find(std::string_view key, std::size_t holder) const {
  for (std::size_t i = 0; i < size_; ++i) {
    const Entry& entry = entries_[i];
    if (entry.holder == holder && std::string_view(entry.key, entry.size) == key) return i;
  }
  return kNone;
}

PlainCounts::Object::Value PlainCounts::Object::find(std::string_view key) const {
  const std::size_t found = counts_->find(key, holder_);
  if (found == kNone) return {};
  const Entry& entry = counts_->entries_[found];
  return {entry.kind, entry.number};
}

std::optional<PlainCounts::Object> PlainCounts::Object::object(std::string_view key) const {
  const std::size_t found = counts_->find(key, holder_);
  if (found == kNone || counts_->entries_[found].kind != Kind::object) return std::nullopt;
  return Object(*counts_, found);
}

}  // namespace sluice::gateway::ai
