#include "gateway/http1/field.h"

#include <cstring>

#include "gateway/http1/octets.h"

namespace sluice::gateway::http1 {
namespace {

// In the order of KnownField.
constexpr std::array<std::string_view, kKnownFieldCount> kNames = {
    "",
    "accept",
    "accept-encoding",
    "accept-language",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "retry-after",
    "sec-websocket-accept",
    "sec-websocket-key",
    "server",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-real-ip",
    "x-request-id",
};

constexpr std::size_t kMinName = 2;
constexpr std::size_t kMaxName = 20;
constexpr std::size_t kSlots = 256;

using Slots = std::array<std::uint8_t, kSlots>;

// A perfect hash over the length and three letters. The factors were found by trial; `kSlotOf`
// fails to compile when a new name collides, and then others are due.
constexpr std::size_t slot(const char* name, std::size_t size) {
  const auto at = [&](std::size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(name[i])) | 0x20u;
  };
  return (size * 61 + at(0) * 86 + at(size * 3 / 4) * 240 + at(size - 1) * 132) % kSlots;
}

consteval Slots fill_slots() {
  Slots slots{};
  for (std::size_t id = 1; id < kKnownFieldCount; ++id) {
    std::uint8_t& entry = slots[slot(kNames[id].data(), kNames[id].size())];
    if (entry != 0) throw "two names share a slot: choose other factors";
    entry = static_cast<std::uint8_t>(id);
  }
  return slots;
}
constexpr Slots kSlotOf = fill_slots();
static_assert([] {
  for (std::size_t id = 1; id < kKnownFieldCount; ++id) {
    if (kNames[id].size() < kMinName || kNames[id].size() > kMaxName) return false;
  }
  return true;
}());

std::uint64_t load8(const char* from) {
  std::uint64_t word = 0;
  std::memcpy(&word, from, sizeof word);
  return word;
}
std::uint32_t load4(const char* from) {
  std::uint32_t word = 0;
  std::memcpy(&word, from, sizeof word);
  return word;
}

// `name` has `lower`'s size, at least 2. Setting 0x20 folds letters; it also folds CR to "-", and
// some control octets to digits, none of which the name has. Nothing else becomes a letter, a digit
// or "-".
bool same_folded(const char* name, std::string_view lower) {
  constexpr std::uint64_t kFold8 = 0x2020202020202020u;
  constexpr std::uint32_t kFold4 = 0x20202020u;
  const std::size_t size = lower.size();
  const char* known = lower.data();
  if (size >= 8) {
    std::uint64_t differ = (load8(name) | kFold8) ^ load8(known);
    if (size > 16) differ |= (load8(name + 8) | kFold8) ^ load8(known + 8);
    return (differ | ((load8(name + size - 8) | kFold8) ^ load8(known + size - 8))) == 0;
  }
  if (size >= 4) {
    return (((load4(name) | kFold4) ^ load4(known)) |
            ((load4(name + size - 4) | kFold4) ^ load4(known + size - 4))) == 0;
  }
  return (name[0] | 0x20) == known[0] && (name[1] | 0x20) == known[1] &&
         (name[size - 1] | 0x20) == known[size - 1];
}

}  // namespace

KnownField known_field(std::string_view name) {
  if (name.size() < kMinName || name.size() > kMaxName) return KnownField::unknown;
  const std::uint8_t id = kSlotOf[slot(name.data(), name.size())];
  const std::string_view known = kNames[id];
  if (known.size() != name.size() || !same_folded(name.data(), known)) return KnownField::unknown;
  return static_cast<KnownField>(id);
}

std::string_view known_field_name(KnownField id) {
  return kNames[static_cast<std::size_t>(id)];
}

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  if (text == lower) return true;  // as a rule, where it is the same at all
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (to_lower(text[i]) != lower[i]) return false;
  }
  return true;
}

std::string_view FieldTable::first(KnownField id) const {
  if (!has(id)) return {};
  for (std::size_t i = 0; i < size_; ++i) {
    if (entries_[i].id == id) return (*this)[i].value;
  }
  return {};
}

void FieldTable::drop(std::string_view lower_name) {
  for (std::size_t i = 0; i < size_; ++i) {
    if (equals_ignoring_case((*this)[i].name, lower_name)) entries_[i].nominated = true;
  }
}

std::string_view FieldTable::first(std::string_view lower_name) const {
  for (std::size_t i = 0; i < size_; ++i) {
    const Field field = (*this)[i];
    if (equals_ignoring_case(field.name, lower_name)) return field.value;
  }
  return {};
}

}  // namespace sluice::gateway::http1
