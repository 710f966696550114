#include "gateway/tls/client_hello.h"

#include <algorithm>
#include <optional>

namespace sluice::gateway::tls {
namespace {

constexpr unsigned char kHandshake = 22;   // a record's type
constexpr unsigned char kClientHello = 1;  // a handshake message's
constexpr std::size_t kMaxRecord = 16 * 1024;
constexpr unsigned kServerName = 0;           // extensions
constexpr unsigned kEncryptedHello = 0xfe0d;  // RFC 9849
constexpr unsigned char kHostName = 0;

unsigned octet(char c) {
  return static_cast<unsigned char>(c);
}

// Takes vectors and numbers off the front; nothing once something did not fit.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : left_(bytes) {}

  bool empty() const { return left_.empty(); }
  std::optional<unsigned> number(std::size_t size) {
    if (left_.size() < size) return std::nullopt;
    unsigned value = 0;
    for (std::size_t i = 0; i < size; ++i)
      value = value << 8 | octet(left_[i]);
    left_.remove_prefix(size);
    return value;
  }
  bool skip(std::size_t size) {
    if (left_.size() < size) return false;
    left_.remove_prefix(size);
    return true;
  }
  // Behind its length of so many bytes.
  std::optional<std::string_view> vector(std::size_t length_size) {
    const auto size = number(length_size);
    if (!size || left_.size() < *size) return std::nullopt;
    const std::string_view value = left_.substr(0, *size);
    left_.remove_prefix(*size);
    return value;
  }

 private:
  std::string_view left_;
};

}  // namespace

ClientHelloReader::State ClientHelloReader::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (left_ == 0) {
      const std::size_t part = std::min(kRecordHeader - header_.size(), bytes.size());
      header_ += bytes.substr(0, part);
      bytes.remove_prefix(part);
      if (octet(header_[0]) != kHandshake || (header_.size() > 1 && header_[1] != 3))
        return message_.empty() ? State::not_tls : State::malformed;
      if (header_.size() < kRecordHeader) return State::need_more;
      if (header_complete() == State::malformed) return State::malformed;
      continue;
    }
    if (const State state = payload(bytes); state != State::need_more) return state;
  }
  return State::need_more;
}

// A record of a handshake is never empty (RFC 8446 section 5.1).
ClientHelloReader::State ClientHelloReader::header_complete() {
  left_ = octet(header_[3]) << 8 | octet(header_[4]);
  header_.clear();
  return left_ == 0 || left_ > kMaxRecord ? State::malformed : State::need_more;
}

ClientHelloReader::State ClientHelloReader::payload(std::string_view& bytes) {
  const std::size_t part = std::min(left_, bytes.size());
  message_ += bytes.substr(0, part);
  bytes.remove_prefix(part);
  left_ -= part;
  if (octet(message_[0]) != kClientHello) return State::malformed;
  if (message_.size() < kMessageHeader) return State::need_more;
  const std::size_t size = octet(message_[1]) << 16 | octet(message_[2]) << 8 | octet(message_[3]);
  if (size > kMaxMessage) return State::malformed;
  if (message_.size() < kMessageHeader + size) return State::need_more;
  return parse(std::string_view(message_).substr(kMessageHeader, size));
}

ClientHelloReader::State ClientHelloReader::parse(std::string_view body) {
  constexpr std::size_t kVersionAndRandom = 2 + 32;
  Fields fields(body);
  const bool whole =
      fields.skip(kVersionAndRandom) && fields.vector(1) && fields.vector(2) && fields.vector(1);
  if (!whole) return State::malformed;
  if (fields.empty()) return State::complete;  // no extensions: before TLS 1.2
  const auto extensions = fields.vector(2);
  if (!extensions) return State::malformed;
  Fields list(*extensions);
  while (!list.empty()) {
    const auto type = list.number(2);
    const auto data = list.vector(2);
    if (!type || !data || !parse_extension(*type, *data)) return State::malformed;
  }
  return State::complete;
}

bool ClientHelloReader::parse_extension(unsigned type, std::string_view data) {
  if (type == kEncryptedHello) encrypted_ = true;
  if (type != kServerName) return true;
  const auto name = host_name_in(data);
  if (!name || !server_name_.empty()) return false;
  server_name_ = *name;
  return true;
}

std::optional<std::string_view> host_name_in(std::string_view server_name) {
  Fields fields(server_name);
  const auto names = fields.vector(2);
  if (!names || !fields.empty()) return std::nullopt;
  std::string_view found;
  Fields list(*names);
  while (!list.empty()) {
    const auto kind = list.number(1);
    const auto name = list.vector(2);
    if (!kind || !name || name->empty()) return std::nullopt;
    if (*kind != kHostName) continue;
    if (!found.empty()) return std::nullopt;  // one of each kind
    found = *name;
  }
  return found;
}

}  // namespace sluice::gateway::tls
