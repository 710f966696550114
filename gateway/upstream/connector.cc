#include "gateway/upstream/connector.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "gateway/express.h"

namespace sluice::gateway {
namespace {

// Closes unless released.
class NewSocket {
 public:
  explicit NewSocket(int fd) : fd_(fd) {}
  ~NewSocket() {
    if (fd_ >= 0) ::close(fd_);
  }
  NewSocket(const NewSocket&) = delete;
  NewSocket& operator=(const NewSocket&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct NativeAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

NativeAddress native(const policy::IpAddress& address, std::uint16_t port) {
  NativeAddress result;
  if (address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    v4.sin_addr.s_addr = htonl(address.v4_host_order());
    std::memcpy(&result.storage, &v4, sizeof v4);
    result.length = sizeof v4;
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, address.bytes().data(), address.bytes().size());
    std::memcpy(&result.storage, &v6, sizeof v6);
    result.length = sizeof v6;
  }
  return result;
}

ConnectError classify(int error) {
  switch (error) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
      return ConnectError::refused;
    case ETIMEDOUT:
      return ConnectError::timed_out;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case ENONET:
      return ConnectError::unreachable;
    case EADDRNOTAVAIL:
    case EADDRINUSE:
    case EAGAIN:  // connect(2): no free port
      return ConnectError::out_of_ports;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return ConnectError::out_of_descriptors;
    case EPERM:
    case EACCES:
      return ConnectError::not_permitted;
    default:
      return ConnectError::other;
  }
}

std::unexpected<ConnectFailure> failed(std::string_view step, int error) {
  return std::unexpected(
      ConnectFailure{classify(error), std::error_code(error, std::generic_category()), step});
}

bool set_option(int fd, int level, int option, int value) {
  return ::setsockopt(fd, level, option, &value, sizeof value) == 0;
}

// Binds to an address that is not this node's.
std::expected<void, ConnectFailure> bind_source(int fd, const policy::IpAddress& source) {
  const bool transparent = source.is_v4() ? set_option(fd, IPPROTO_IP, IP_TRANSPARENT, 1)
                                          : set_option(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
  if (!transparent) return failed("IP_TRANSPARENT", errno);
  if (!set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1))
    return failed("IP_BIND_ADDRESS_NO_PORT", errno);
  const NativeAddress address = native(source, 0);
  if (::bind(fd, address.get(), address.length) != 0) return failed("bind", errno);
  return {};
}

// On loopback the handshake is over when connect() returns, though it says EINPROGRESS; asking
// saves a turn through epoll.
bool stands_already(int fd) {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0;
}

}  // namespace

std::string_view to_string(ConnectError error) {
  switch (error) {
    case ConnectError::refused:
      return "connection refused";
    case ConnectError::timed_out:
      return "connect timeout";
    case ConnectError::unreachable:
      return "unreachable";
    case ConnectError::tls:
      return "TLS handshake failed";
    case ConnectError::other_protocol:
      return "the endpoint changes its protocol with each connection";
    case ConnectError::connection_limit:
      return "upstream connection limit";
    case ConnectError::out_of_ports:
      return "no free local port";
    case ConnectError::out_of_descriptors:
      return "out of descriptors or memory";
    case ConnectError::not_permitted:
      return "not permitted";
    case ConnectError::source_version:
      return "client and endpoint differ in IP version (source_address: client)";
    case ConnectError::other:
      break;
  }
  return "connect failed";
}

std::string_view name(ConnectError error) {
  constexpr std::array<std::string_view, 11> kNames{
      "refused",        "timed_out",    "unreachable",        "tls",
      "connection_limit", "out_of_ports", "out_of_descriptors", "not_permitted",
      "source_version", "other_protocol", "other"};
  static_assert(kNames.size() == static_cast<std::size_t>(ConnectError::other) + 1);
  return kNames[static_cast<std::size_t>(error)];
}

std::string ConnectFailure::to_string() const {
  std::string text(gateway::to_string(reason));
  if (step.empty()) return text;
  text.append(" (").append(step);
  if (code) text.append(": ").append(code.message());
  if (reason == ConnectError::not_permitted && step != "connect")
    text.append("; needs CAP_NET_RAW or CAP_NET_ADMIN");
  return text.append(")");
}

std::expected<OpenedSocket, ConnectFailure> open_connection(const ConnectOptions& options) {
  const policy::SocketAddress& to = options.destination;
  if (options.source && options.source->is_v4() != to.address.is_v4())
    return std::unexpected(ConnectFailure{.reason = ConnectError::source_version});

  const int family = to.address.is_v4() ? AF_INET : AF_INET6;
  NewSocket socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (socket.get() < 0) return failed("socket", errno);
  if (options.mark != 0 &&
      !set_option(socket.get(), SOL_SOCKET, SO_MARK, static_cast<int>(options.mark)))
    return failed("SO_MARK", errno);
  if (options.source) {
    if (auto bound = bind_source(socket.get(), *options.source); !bound)
      return std::unexpected(bound.error());
  }
  if (options.express && !ExpressLane::offer(socket.get())) return failed("TCP_SAVE_SYN", errno);
  if (!set_option(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1)) return failed("TCP_NODELAY", errno);

  const NativeAddress address = native(to.address, to.port);
  if (::connect(socket.get(), address.get(), address.length) == 0)
    return OpenedSocket{socket.release(), true};
  if (errno != EINPROGRESS) return failed("connect", errno);
  const bool connected = stands_already(socket.get());
  return OpenedSocket{socket.release(), connected};
}

std::optional<ConnectFailure> connection_result(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  if (error == 0) return std::nullopt;
  return failed("connect", error).error();
}

}  // namespace sluice::gateway
