#include "kernel/express_probe.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "kernel/abi_express.h"
#include "kernel/keeper_protocol.h"
#include "kernel/message.h"
#include "kernel/uninterrupted.h"

namespace sluice::kernel {
namespace {

using protocol::OwnedFd;

constexpr int kPatience = 100;  // ms
constexpr std::string_view kWord = "lane";

std::string failed(const char* step) {
  return message("it could not be tried over lo: {}: {}", step, std::strerror(errno));
}

bool comes(int fd, short what) {
  pollfd waited{.fd = fd, .events = what, .revents = 0};
  const int ready = ::poll(&waited, 1, kPatience);
  if (ready == 0) errno = ETIMEDOUT;
  return ready == 1;
}

OwnedFd tcp_socket() {
  return OwnedFd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}

bool mark_as_gateways(int fd, unsigned mark) {
  const int sign = SLUICE_EXPRESS_SIGN;
  return (mark == 0 || ::setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0) &&
         ::setsockopt(fd, IPPROTO_TCP, TCP_SAVE_SYN, &sign, sizeof sign) == 0;
}

// A program that reads as much as FIONREAD says must see what was handed over.
std::string judge(int sender, int reader) {
  if (::send(sender, kWord.data(), kWord.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kWord.size()))
    return failed("send");
  if (!comes(reader, POLLIN)) return failed("recv");
  int waiting = 0;
  if (::ioctl(reader, FIONREAD, &waiting) != 0) return failed("FIONREAD");
  if (waiting != static_cast<int>(kWord.size()))
    return "this kernel's FIONREAD does not count what is handed over: programs that ask it, such "
           "as nginx, would wait for ever (Linux 6.18.10, 6.19 and later do)";
  return {};
}

}  // namespace

std::string probe_express(unsigned mark) {
  const Uninterrupted waiting;
  const OwnedFd listener = tcp_socket();
  OwnedFd client = tcp_socket();
  if (!listener || !client) return failed("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener.get(), any, length) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), any, &length) != 0)
    return failed("listen");
  if (!mark_as_gateways(client.get(), mark)) return failed("SO_MARK, TCP_SAVE_SYN");
  if (::connect(client.get(), any, length) != 0 && errno != EINPROGRESS) return failed("connect");
  if (!comes(listener.get(), POLLIN)) return failed("accept");
  const OwnedFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!accepted) return failed("accept");
  const std::string why = judge(client.get(), accepted.get());
  // Both ends are gone from the lane when this returns.
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  client.reset();
  return why;
}

}  // namespace sluice::kernel
