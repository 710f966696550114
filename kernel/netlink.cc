#include "kernel/netlink.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace sluice::kernel {
namespace {
constexpr std::size_t kMessageSpace = 64 * 1024;
constexpr std::size_t kReceiveSpace = 256 * 1024;
}  // namespace

NetlinkMessage::NetlinkMessage(std::uint16_t type, std::uint16_t flags) : bytes_(kMessageSpace) {
  nlmsghdr* made = mnl_nlmsg_put_header(bytes_.data());
  made->nlmsg_type = type;
  made->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
}

void* NetlinkMessage::put_extra(std::size_t size) {
  return mnl_nlmsg_put_extra_header(header(), size);
}

void NetlinkMessage::put(std::uint16_t attribute, std::span<const char> value) {
  mnl_attr_put(header(), attribute, value.size(), value.data());
}

std::span<const char> NetlinkMessage::bytes() {
  return {bytes_.data(), header()->nlmsg_len};
}

NetlinkSocket::NetlinkSocket(int bus) : fd_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, bus)) {
  if (!fd_) return;
  // The kernel answers at once; the deadline is for a bug, so that the keeper never hangs on it.
  const timeval limit{10, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  const int on = 1;
  ::setsockopt(fd_.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
  ::setsockopt(fd_.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
}

int NetlinkSocket::send(std::span<const char> bytes) {
  const int space = static_cast<int>(bytes.size()) * 2 + 65536;
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &space, sizeof(space));
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const auto sent = ::sendto(fd_.get(), bytes.data(), bytes.size(), 0,
                             reinterpret_cast<const sockaddr*>(&kernel), sizeof(kernel));
  return sent < 0 ? errno : 0;
}

int NetlinkSocket::request(NetlinkMessage& message) {
  message.header()->nlmsg_flags |= NLM_F_ACK;
  const std::uint32_t sequence = sequence_++;
  message.header()->nlmsg_seq = sequence;
  int result = 0;
  const int error =
      exchange(message.bytes(), sequence, [&](std::uint32_t, int failed) { result = failed; });
  return error != 0 ? error : result;
}

int NetlinkSocket::exchange(std::span<const char> bytes, std::uint32_t last_sequence,
                            const std::function<void(std::uint32_t, int)>& failed, Errors errors) {
  if (const int error = send(bytes); error != 0) return error;
  std::vector<char> buffer(kReceiveSpace);
  for (;;) {
    const auto got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    int left = static_cast<int>(got);
    bool answered = false;
    for (auto* at = reinterpret_cast<nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(at, left);
         at = mnl_nlmsg_next(at, &left)) {
      if (at->nlmsg_type != NLMSG_ERROR) continue;
      const auto* result = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(at));
      if (result->error != 0) failed(at->nlmsg_seq, -result->error);
      answered = answered || at->nlmsg_seq == last_sequence ||
                 (result->error != 0 && errors == Errors::end_all);
    }
    if (answered) return 0;
  }
}

int NetlinkSocket::dump(NetlinkMessage& message, const std::function<void(const nlmsghdr&)>& each) {
  message.header()->nlmsg_flags |= NLM_F_DUMP;
  message.header()->nlmsg_seq = sequence_++;
  if (const int error = send(message.bytes()); error != 0) return error;
  std::vector<char> buffer(kReceiveSpace);
  for (;;) {
    const auto got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    int left = static_cast<int>(got);
    for (auto* at = reinterpret_cast<nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(at, left);
         at = mnl_nlmsg_next(at, &left)) {
      if (at->nlmsg_type == NLMSG_DONE) return 0;
      if (at->nlmsg_type == NLMSG_ERROR) {
        return -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(at))->error;
      }
      each(*at);
    }
  }
}

}  // namespace sluice::kernel
