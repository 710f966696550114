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
static_assert(std::variant_size_v<Message> == 20);
static_assert(std::is_same_v<std::variant_alternative_t<0, Message>, Hello>);
static_assert(std::is_same_v<std::variant_alternative_t<11, Message>, Ban>);
static_assert(std::is_same_v<std::variant_alternative_t<16, Message>, InForce>);

// Writer and Reader take the same field list: one writes what it is given, the other fills it.
class Writer {
 public:
  template <std::unsigned_integral Int>
  void number(Int value) {
    for (std::size_t i = 0; i < sizeof(Int); ++i)
      bytes_.push_back(static_cast<char>((static_cast<std::uint64_t>(value) >> (8 * i)) & 0xff));
  }
  template <std::unsigned_integral Int>
  void number(Int value, Int, Int) {
    number(value);
  }
  template <typename Enum>
  void one_of(Enum value, int) {
    number(static_cast<std::uint8_t>(value));
  }
  void flag(bool value) { number<std::uint8_t>(value ? 1 : 0); }
  void text(std::string_view value) {
    number<std::uint32_t>(static_cast<std::uint32_t>(value.size()));
    bytes_.append(value);
  }
  void real(double value) { number(std::bit_cast<std::uint64_t>(value)); }
  template <typename Item, typename Fields>
  void list(const std::vector<Item>& items, std::size_t, std::size_t, Fields fields) {
    number(static_cast<std::uint16_t>(items.size()));
    for (const Item& item : items)
      fields(*this, item);
  }
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

  template <std::unsigned_integral Int>
  void number(Int& out) {
    out = 0;
    if (left_.size() < sizeof(Int)) return fail();
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(Int); ++i)
      value |= static_cast<std::uint64_t>(left_[i]) << (8 * i);
    left_ = left_.subspan(sizeof(Int));
    out = static_cast<Int>(value);
  }
  // Anything but `low` to `high` is refused.
  template <std::unsigned_integral Int>
  void number(Int& out, Int low, Int high) {
    number(out);
    if (out < low || out > high) fail();
  }
  // One byte, below `count`.
  template <typename Enum>
  void one_of(Enum& out, int count) {
    std::uint8_t value = 0;
    number(value);
    if (value >= count) return fail();
    out = static_cast<Enum>(value);
  }

  void flag(bool& out) {
    std::uint8_t value = 0;
    number(value);
    if (value > 1) fail();
    out = value == 1;
  }

  void text(std::string& out) {
    std::uint32_t size = 0;
    number(size);
    if (size > left_.size()) return fail();
    out.assign(reinterpret_cast<const char*>(left_.data()), size);
    left_ = left_.subspan(size);
  }

  void real(double& out) {
    std::uint64_t bits = 0;
    number(bits);
    out = std::bit_cast<double>(bits);
  }

  // At most `most` items of at least `each` bytes: a lie is noticed before anything is allocated.
  template <typename Item, typename Fields>
  void list(std::vector<Item>& items, std::size_t each, std::size_t most, Fields fields) {
    std::uint16_t count = 0;
    number(count);
    if (count > most || count * each > left_.size()) return fail();
    for (std::size_t i = 0; i < count && ok_; ++i)
      fields(*this, items.emplace_back());
  }

 private:
  void fail() {
    ok_ = false;
    left_ = {};
  }

  std::span<const std::uint8_t> left_;
  bool ok_ = true;
};

// --- the fields of each message, in their order on the wire --------------------------------------

template <typename T, typename Type>
concept Is = std::same_as<std::remove_const_t<T>, Type>;

template <typename T>
concept NamesAGeneration = Is<T, Policy> || Is<T, Commit> || Is<T, Abandon> || Is<T, Ready> ||
    Is<T, Committed> || Is<T, InForce> || Is<T, Material>;
template <typename T>
concept IsEmpty = Is<T, WantKernelSamples> || Is<T, Drained>;

constexpr std::size_t kAnyNumber = 0xffff;  // of items in a list, within a message's length

void fields(auto& a, Is<Hello> auto& m) {
  a.number(m.workers, 1U, 64U);
  a.number(m.own_mark);
}
void fields(auto& a, NamesAGeneration auto& m) {
  a.number(m.generation);
}
void fields(auto& a, Is<Sockets> auto& m) {
  a.flag(m.last);
  a.list(m.entries, 9, kMaxDescriptors, [](auto& each, auto& entry) {
    each.text(entry.listener);
    each.one_of(entry.way, kWays);
    each.number(entry.worker);
  });
}
void fields(auto& a, Is<Drain> auto& m) {
  a.number(m.deadline_ms);
  a.flag(m.replaced);
}
void fields(auto& a, Is<Request> auto& m) {
  a.number(m.id);
  a.text(m.command);
}
void fields(auto& a, Is<KernelSample> auto& m) {
  a.text(m.name);
  a.list(m.labels, 8, kAnyNumber, [](auto& each, auto& label) {
    each.text(label.first);
    each.text(label.second);
  });
  a.real(m.value);
  a.flag(m.counter);
  a.text(m.help);
}
void fields(auto& a, Is<KernelSamples> auto& m) {
  a.flag(m.first);
  a.flag(m.last);
  a.list(m.samples, 19, kAnyNumber, [](auto& each, auto& sample) { fields(each, sample); });
}
void fields(auto& a, Is<Prepared> auto& m) {
  a.number(m.generation);
  a.flag(m.ok);
  a.text(m.message);
}
void fields(auto& a, Is<Ban> auto& m) {
  for (auto& byte : m.source.address)
    a.number(byte);
  a.number(m.source.length, std::uint8_t{0}, std::uint8_t{128});
  a.flag(m.source.v4);
  a.number(m.seconds);
  a.text(m.reason);
}
void fields(auto& a, Is<Reply> auto& m) {
  a.number(m.id);
  a.flag(m.last);
  a.text(m.text);
}
void fields(auto& a, Is<ReloadEnded> auto& m) {
  a.flag(m.ok);
}
void fields(auto& a, Is<Memory> auto& m) {
  a.number(m.id);
  a.flag(m.limits);
}
void fields(auto& a, Is<DrainConnections> auto& m) {
  a.number(m.deadline_ms);
  a.list(m.cookies, 8, kMaxCookies, [](auto& each, auto& cookie) { each.number(cookie); });
}
void fields(auto&, IsEmpty auto&) {}

bool is_frozen(std::size_t type) {
  static const std::size_t drain = Message(Drain{}).index();
  static const std::size_t drained = Message(Drained{}).index();
  return type == drain || type == drained;
}

template <std::size_t I = 0>
bool get_alternative(Reader& r, std::size_t type, Message& out) {
  if constexpr (I == std::variant_size_v<Message>) {
    return false;
  } else {
    if (type != I) return get_alternative<I + 1>(r, type, out);
    std::variant_alternative_t<I, Message> message;
    fields(r, message);
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
  w.number(is_frozen(message.index()) ? kFrozenVersion : kVersion);
  w.number(static_cast<std::uint16_t>(message.index()));
  std::visit([&w](const auto& m) { fields(w, m); }, message);
  std::string bytes = w.take();
  if (bytes.size() > kMaxMessage)
    return error("a message of " + std::to_string(bytes.size()) + " bytes is too long");
  return bytes;
}

std::expected<Message, Error> decode(std::span<const std::uint8_t> bytes) {
  if (bytes.size() > kMaxMessage) return error("message too long");
  Reader r(bytes);
  std::uint16_t magic = 0, version = 0, type = 0;
  r.number(magic);
  r.number(version);
  r.number(type);
  if (magic != kMagic) return error("not a message of this protocol");
  if (r.ok() && version != (is_frozen(type) ? kFrozenVersion : kVersion))
    return error("protocol version " + std::to_string(version) + ", this one speaks " +
                 std::to_string(kVersion));
  Message message;
  if (!r.ok() || !get_alternative(r, type, message)) return error("unknown type of message");
  if (!r.done()) return error("message of type " + std::to_string(type) + " is malformed");
  return message;
}

std::size_t descriptors_of(const Message& message) {
  if (std::holds_alternative<Policy>(message) || std::holds_alternative<Material>(message) ||
      std::holds_alternative<Memory>(message))
    return 1;
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
    fields(w, sample);
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
  if ((header.msg_flags & MSG_TRUNC) != 0) return error("message was cut short");
  // EMFILE, for some of them: the peer has done nothing wrong.
  const bool lost = (header.msg_flags & MSG_CTRUNC) != 0;
  if (lost) descriptors.clear();
  auto message = decode(std::span(bytes).first(static_cast<std::size_t>(size)));
  if (!message) return std::unexpected(message.error());
  const std::size_t needed = descriptors_of(*message);
  if (descriptors.size() != needed && !(lost && needed > 0))
    return error("message came with " + std::to_string(descriptors.size()) +
                 " descriptors, needs " + std::to_string(needed));
  return ReceiveResult{.status = IoStatus::ok,
                       .received = Received{std::move(*message), std::move(descriptors)}};
}

}  // namespace sluice::kernel::protocol
