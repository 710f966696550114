#include "kernel/keeper_protocol.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <concepts>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <type_traits>
#include <unistd.h>

namespace sluice::kernel::protocol {
namespace {

// 'S' 'L', version, type: six bytes before each message's fields.
constexpr std::uint16_t kMagic = 0x4c53;

// Types are positions in the variant; they are part of the version.
static_assert(std::variant_size_v<Message> == 17);
static_assert(std::is_same_v<std::variant_alternative_t<0, Message>, Hello>);
static_assert(std::is_same_v<std::variant_alternative_t<11, Message>, Ban>);
static_assert(std::is_same_v<std::variant_alternative_t<16, Message>, InForce>);

class Writer {
 public:
  template <std::unsigned_integral Int>
  void number(Int value) {
    for (std::size_t i = 0; i < sizeof(Int); ++i)
      bytes_.push_back(static_cast<char>((static_cast<std::uint64_t>(value) >> (8 * i)) & 0xff));
  }
  void flag(bool value) { number<std::uint8_t>(value ? 1 : 0); }
  void text(std::string_view value) {
    number<std::uint32_t>(static_cast<std::uint32_t>(value.size()));
    bytes_.append(value);
  }
  void real(double value) { number(std::bit_cast<std::uint64_t>(value)); }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads forward; after the first field that does not fit, everything reads as zero and ok() is
// false.
class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> bytes) : left_(bytes) {}

  bool ok() const { return ok_; }
  bool done() const { return ok_ && left_.empty(); }
  std::size_t left() const { return left_.size(); }
  void fail() {
    ok_ = false;
    left_ = {};
  }

  template <std::unsigned_integral Int>
  Int number() {
    if (left_.size() < sizeof(Int)) {
      fail();
      return 0;
    }
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(Int); ++i)
      value |= static_cast<std::uint64_t>(left_[i]) << (8 * i);
    left_ = left_.subspan(sizeof(Int));
    return static_cast<Int>(value);
  }

  bool flag() {
    const auto value = number<std::uint8_t>();
    if (value > 1) fail();
    return value == 1;
  }

  std::string text() {
    const auto size = number<std::uint32_t>();
    if (size > left_.size()) {
      fail();
      return {};
    }
    std::string value(reinterpret_cast<const char*>(left_.data()), size);
    left_ = left_.subspan(size);
    return value;
  }

  double real() { return std::bit_cast<double>(number<std::uint64_t>()); }

  // A count of things that take at least `each` bytes: a lie is noticed before anything is
  // allocated.
  std::size_t count(std::size_t each) {
    const std::size_t value = number<std::uint16_t>();
    if (value * each > left_.size()) {
      fail();
      return 0;
    }
    return value;
  }

 private:
  std::span<const std::uint8_t> left_;
  bool ok_ = true;
};

// --- one pair of functions per message -----------------------------------------------------------

void put(Writer& w, const Hello& m) {
  w.number(m.workers);
  w.number(m.own_mark);
}
void get(Reader& r, Hello& m) {
  m.workers = r.number<std::uint32_t>();
  m.own_mark = r.number<std::uint32_t>();
  if (m.workers < 1 || m.workers > 64) r.fail();
}

void put(Writer& w, const Policy& m) {
  w.number(m.generation);
}
void get(Reader& r, Policy& m) {
  m.generation = r.number<std::uint64_t>();
}

void put(Writer& w, const Sockets& m) {
  w.flag(m.last);
  w.number(static_cast<std::uint16_t>(m.entries.size()));
  for (const auto& entry : m.entries) {
    w.text(entry.listener);
    w.number(static_cast<std::uint8_t>(entry.way));
    w.number(entry.worker);
  }
}
void get(Reader& r, Sockets& m) {
  m.last = r.flag();
  const std::size_t count = r.count(9);
  if (count > kMaxDescriptors) return r.fail();
  for (std::size_t i = 0; i < count && r.ok(); ++i) {
    Sockets::Entry entry;
    entry.listener = r.text();
    const auto way = r.number<std::uint8_t>();
    if (way >= kWays) return r.fail();
    entry.way = static_cast<WayIn>(way);
    entry.worker = r.number<std::uint32_t>();
    m.entries.push_back(std::move(entry));
  }
}

void put(Writer& w, const Commit& m) {
  w.number(m.generation);
}
void get(Reader& r, Commit& m) {
  m.generation = r.number<std::uint64_t>();
}

void put(Writer& w, const Abandon& m) {
  w.number(m.generation);
}
void get(Reader& r, Abandon& m) {
  m.generation = r.number<std::uint64_t>();
}

void put(Writer& w, const Drain& m) {
  w.number(m.deadline_ms);
}
void get(Reader& r, Drain& m) {
  m.deadline_ms = r.number<std::uint32_t>();
}

void put(Writer& w, const Request& m) {
  w.number(m.id);
  w.text(m.command);
}
void get(Reader& r, Request& m) {
  m.id = r.number<std::uint64_t>();
  m.command = r.text();
}

void put(Writer& w, const KernelSample& sample) {
  w.text(sample.name);
  w.number(static_cast<std::uint16_t>(sample.labels.size()));
  for (const auto& [key, value] : sample.labels) {
    w.text(key);
    w.text(value);
  }
  w.real(sample.value);
  w.flag(sample.counter);
  w.text(sample.help);
}
void put(Writer& w, const KernelSamples& m) {
  w.flag(m.first);
  w.flag(m.last);
  w.number(static_cast<std::uint16_t>(m.samples.size()));
  for (const auto& sample : m.samples)
    put(w, sample);
}
KernelSample get_sample(Reader& r) {
  KernelSample sample;
  sample.name = r.text();
  const std::size_t labels = r.count(8);
  for (std::size_t i = 0; i < labels && r.ok(); ++i) {
    std::string key = r.text();
    sample.labels.emplace_back(std::move(key), r.text());
  }
  sample.value = r.real();
  sample.counter = r.flag();
  sample.help = r.text();
  return sample;
}
void get(Reader& r, KernelSamples& m) {
  m.first = r.flag();
  m.last = r.flag();
  const std::size_t count = r.count(19);
  for (std::size_t i = 0; i < count && r.ok(); ++i)
    m.samples.push_back(get_sample(r));
}

void put(Writer& w, const Ready& m) {
  w.number(m.generation);
}
void get(Reader& r, Ready& m) {
  m.generation = r.number<std::uint64_t>();
}

void put(Writer& w, const Prepared& m) {
  w.number(m.generation);
  w.flag(m.ok);
  w.text(m.message);
}
void get(Reader& r, Prepared& m) {
  m.generation = r.number<std::uint64_t>();
  m.ok = r.flag();
  m.message = r.text();
}

void put(Writer& w, const Committed& m) {
  w.number(m.generation);
}
void get(Reader& r, Committed& m) {
  m.generation = r.number<std::uint64_t>();
}

void put(Writer& w, const Ban& m) {
  for (const std::uint8_t byte : m.source.address)
    w.number(byte);
  w.number(m.source.length);
  w.flag(m.source.v4);
  w.number(m.seconds);
  w.text(m.reason);
}
void get(Reader& r, Ban& m) {
  for (std::uint8_t& byte : m.source.address)
    byte = r.number<std::uint8_t>();
  m.source.length = r.number<std::uint8_t>();
  m.source.v4 = r.flag();
  m.seconds = r.number<std::uint32_t>();
  m.reason = r.text();
  if (m.source.length > 128) r.fail();
}

void put(Writer& w, const Reply& m) {
  w.number(m.id);
  w.flag(m.last);
  w.text(m.text);
}
void get(Reader& r, Reply& m) {
  m.id = r.number<std::uint64_t>();
  m.last = r.flag();
  m.text = r.text();
}

void put(Writer&, const WantKernelSamples&) {}
void get(Reader&, WantKernelSamples&) {}
void put(Writer&, const Drained&) {}
void get(Reader&, Drained&) {}

void put(Writer& w, const ReloadEnded& m) {
  w.flag(m.ok);
}
void get(Reader& r, ReloadEnded& m) {
  m.ok = r.flag();
}

void put(Writer& w, const InForce& m) {
  w.number(m.generation);
}
void get(Reader& r, InForce& m) {
  m.generation = r.number<std::uint64_t>();
}

template <std::size_t I = 0>
bool get_alternative(Reader& r, std::size_t type, Message& out) {
  if constexpr (I == std::variant_size_v<Message>) {
    return false;
  } else {
    if (type != I) return get_alternative<I + 1>(r, type, out);
    std::variant_alternative_t<I, Message> message;
    get(r, message);
    out = std::move(message);
    return true;
  }
}

std::unexpected<Error> error(std::string message) {
  return std::unexpected(Error{std::move(message)});
}

std::vector<OwnedFd> take_descriptors(msghdr& header) {
  std::vector<OwnedFd> descriptors;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  return descriptors;
}

}  // namespace

std::expected<std::string, Error> encode(const Message& message) {
  if (descriptors_of(message) > kMaxDescriptors)
    return error("too many descriptors for one message");
  Writer w;
  w.number(kMagic);
  w.number(kVersion);
  w.number(static_cast<std::uint16_t>(message.index()));
  std::visit([&w](const auto& m) { put(w, m); }, message);
  std::string bytes = w.take();
  if (bytes.size() > kMaxMessage)
    return error("a message of " + std::to_string(bytes.size()) + " bytes is too long");
  return bytes;
}

std::expected<Message, Error> decode(std::span<const std::uint8_t> bytes) {
  if (bytes.size() > kMaxMessage) return error("message too long");
  Reader r(bytes);
  if (r.number<std::uint16_t>() != kMagic) return error("not a message of this protocol");
  const auto version = r.number<std::uint16_t>();
  if (r.ok() && version != kVersion)
    return error("protocol version " + std::to_string(version) + ", this one speaks " +
                 std::to_string(kVersion));
  const auto type = r.number<std::uint16_t>();
  Message message;
  if (!r.ok() || !get_alternative(r, type, message)) return error("unknown type of message");
  if (!r.done()) return error("message of type " + std::to_string(type) + " is malformed");
  return message;
}

std::size_t descriptors_of(const Message& message) {
  if (std::holds_alternative<Policy>(message)) return 1;
  if (const auto* sockets = std::get_if<Sockets>(&message)) return sockets->entries.size();
  return 0;
}

std::vector<Message> in_batches(const std::vector<KernelSample>& samples) {
  constexpr std::size_t kBudget = kMaxMessage - 64;
  std::vector<Message> out;
  KernelSamples batch;
  std::size_t used = 0;
  for (const auto& sample : samples) {
    Writer w;
    put(w, sample);
    const std::size_t size = w.take().size();
    if (size > kBudget) continue;
    if (used + size > kBudget) {
      batch.last = false;
      out.emplace_back(
          std::exchange(batch, KernelSamples{.first = false, .last = true, .samples = {}}));
      used = 0;
    }
    used += size;
    batch.samples.push_back(sample);
  }
  out.emplace_back(std::move(batch));
  return out;
}

std::vector<Message> in_pieces(std::uint64_t id, std::string_view text) {
  std::vector<Message> out;
  do {
    const std::string_view piece = text.substr(0, kMaxText);
    text.remove_prefix(piece.size());
    out.emplace_back(Reply{.id = id, .last = text.empty(), .text = std::string(piece)});
  } while (!text.empty());
  return out;
}

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

void OwnedFd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::expected<std::pair<OwnedFd, OwnedFd>, Error> make_channel() {
  int fds[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
    return error(std::string("socketpair: ") + std::strerror(errno));
  return std::pair(OwnedFd(fds[0]), OwnedFd(fds[1]));
}

IoStatus send_packet(int channel, std::string_view bytes, std::span<const int> descriptors) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    if (descriptors.size() > kMaxDescriptors) return IoStatus::closed;
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(c), descriptors.data(), descriptors.size_bytes());
  }
  while (::sendmsg(channel, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EINTR) continue;
    // ETOOMANYREFS: too many descriptors in flight; they are taken out as the peer reads.
    if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS) return IoStatus::would_block;
    return IoStatus::closed;
  }
  return IoStatus::ok;
}

std::expected<ReceiveResult, Error> receive_packet(int channel) {
  std::vector<std::uint8_t> bytes(kMaxMessage);
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t size = 0;
  do {
    size = ::recvmsg(channel, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return ReceiveResult{.status = IoStatus::would_block, .received = std::nullopt};
  if (size <= 0) return ReceiveResult{.status = IoStatus::closed, .received = std::nullopt};

  std::vector<OwnedFd> descriptors = take_descriptors(header);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return error("message was cut short");
  auto message = decode(std::span(bytes).first(static_cast<std::size_t>(size)));
  if (!message) return std::unexpected(message.error());
  if (descriptors.size() != descriptors_of(*message))
    return error("message came with " + std::to_string(descriptors.size()) +
                 " descriptors, needs " + std::to_string(descriptors_of(*message)));
  return ReceiveResult{.status = IoStatus::ok,
                       .received = Received{std::move(*message), std::move(descriptors)}};
}

}  // namespace sluice::kernel::protocol
