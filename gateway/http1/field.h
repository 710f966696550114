// Names of header fields that the gateway acts upon, recognised once per field while a head is
// parsed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::gateway::http1 {

// `unknown` is every other name. At most 64, so that a set of them is one word.
enum class KnownField : std::uint8_t {
  unknown,
  accept,
  accept_encoding,
  accept_language,
  age,
  allow,
  authorization,
  cache_control,
  connection,
  content_encoding,
  content_length,
  content_location,
  content_range,
  content_type,
  cookie,
  date,
  etag,
  expect,
  expires,
  forwarded,
  host,
  http2_settings,
  if_match,
  if_modified_since,
  if_none_match,
  if_range,
  if_unmodified_since,
  keep_alive,
  last_modified,
  location,
  max_forwards,
  origin,
  pragma,
  proxy_authenticate,
  proxy_authorization,
  proxy_connection,
  range,
  referer,
  retry_after,
  sec_websocket_accept,
  sec_websocket_key,
  server,
  set_cookie,
  te,
  traceparent,
  tracestate,
  trailer,
  transfer_encoding,
  upgrade,
  user_agent,
  vary,
  via,
  www_authenticate,
  x_forwarded_for,
  x_forwarded_host,
  x_forwarded_port,
  x_forwarded_prefix,
  x_forwarded_proto,
  x_forwarded_scheme,
  x_forwarded_server,
  x_forwarded_ssl,
  x_real_ip,
  x_request_id,
};
inline constexpr std::size_t kKnownFieldCount =
    static_cast<std::size_t>(KnownField::x_request_id) + 1;
static_assert(kKnownFieldCount <= 64);

class KnownFieldSet {
 public:
  constexpr KnownFieldSet() = default;
  template <typename... Ids>
  constexpr explicit KnownFieldSet(Ids... ids) {
    (add(ids), ...);
  }
  constexpr void add(KnownField id) { bits_ |= bit(id); }
  constexpr bool contains(KnownField id) const { return (bits_ & bit(id)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr KnownFieldSet operator|(KnownFieldSet other) const {
    KnownFieldSet both;
    both.bits_ = bits_ | other.bits_;
    return both;
  }

 private:
  static constexpr std::uint64_t bit(KnownField id) {
    return std::uint64_t{1} << static_cast<unsigned>(id);
  }
  std::uint64_t bits_ = 0;
};

// Case-insensitive; `unknown` where the name is none of the above. `name` is without control octets
// other than HTAB; it need not be a token (RFC 9110 section 5.6.2), and is one where it is known.
KnownField known_field(std::string_view name);

// Lower case, as in HTTP/2; "" for `unknown`.
std::string_view known_field_name(KnownField id);

// Both ASCII; `lower` is in lower case already.
bool equals_ignoring_case(std::string_view text, std::string_view lower);

// One field of a parsed head. The views point into the buffer that was parsed.
struct Field {
  std::string_view name;   // as received
  std::string_view value;  // without leading and trailing white space
  KnownField id = KnownField::unknown;
};

// The fields of one head, in order, as offsets (10 bytes a field): the buffer may move (see
// `rebase` of the heads).
class FieldTable {
 public:
  static constexpr std::size_t kCapacity = 128;

  // Offsets from the beginning of the head. 16 bits, so a head is at most 65,535 bytes.
  struct Entry {
    std::uint16_t line_at;
    std::uint16_t name_size;
    std::uint16_t value_at;
    std::uint16_t value_size;
    KnownField id;
    // Not forwarded: named by the Connection field (RFC 9110 section 7.6.1), or drop()ped.
    bool nominated;
  };

  class Iterator {
   public:
    using value_type = Field;
    using difference_type = std::ptrdiff_t;
    Iterator(const FieldTable* table, std::size_t index) : table_(table), index_(index) {}
    Field operator*() const { return (*table_)[index_]; }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return index_ == other.index_; }

   private:
    const FieldTable* table_;
    std::size_t index_;
  };

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Field operator[](std::size_t index) const {
    const Entry& entry = entries_[index];
    return {{base_ + entry.line_at, entry.name_size},
            {base_ + entry.value_at, entry.value_size},
            entry.id};
  }
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, size_}; }

  // One bit test; of known fields only.
  bool has(KnownField id) const { return present_.contains(id); }
  // The value of the first field of that kind; "" if there is none.
  std::string_view first(KnownField id) const;
  // By any name, given in lower case; for names that are not in KnownField. "" if there is none.
  std::string_view first(std::string_view lower_name) const;

  // Fields of that name, given in lower case, are not forwarded; they can be read all the same.
  void drop(std::string_view lower_name);

  // For the parser and the forwarder.
  const Entry& entry(std::size_t index) const { return entries_[index]; }
  Entry& entry(std::size_t index) { return entries_[index]; }
  void clear() {
    size_ = 0;
    present_ = {};
  }
  void rebase(const char* base) { base_ = base; }
  void resize(std::size_t size) { size_ = static_cast<std::uint16_t>(size); }
  void mark_present(KnownField id) { present_.add(id); }
  KnownFieldSet present() const { return present_; }

 private:
  const char* base_ = nullptr;
  KnownFieldSet present_;
  std::uint16_t size_ = 0;
  std::array<Entry, kCapacity> entries_;  // filled up to size_ only
};

}  // namespace sluice::gateway::http1
