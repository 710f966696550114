#include "gateway/control/admin_client.h"

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/control/admin_server.h"
#include "kernel/keeper_protocol.h"

namespace sluice::gateway {
namespace {

namespace json = boost::json;
using kernel::protocol::OwnedFd;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxResponse = 64UL << 20;

std::unexpected<AdminError> failure(AdminError::Kind kind, std::string message) {
  return std::unexpected(AdminError{kind, std::move(message)});
}

std::unexpected<AdminError> connect_failure(const std::string& path, int error) {
  if (error == ENOENT || error == ECONNREFUSED)
    return failure(AdminError::Kind::not_running,
                   "no sluice answers on " + path +
                       "; start it with `sluice run`, or name its socket with --socket");
  if (error == EACCES || error == EPERM)
    return failure(AdminError::Kind::not_allowed,
                   "not allowed to use " + path + "; run this as the user that sluice runs as");
  return failure(AdminError::Kind::failed, path + ": " + std::strerror(error));
}

bool wait_for(int fd, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd waited{.fd = fd, .events = events, .revents = 0};
    const int count = ::poll(&waited, 1, left.count() > 0 ? static_cast<int>(left.count()) : 0);
    if (count < 0 && errno == EINTR) continue;
    return count > 0;
  }
}

std::expected<void, AdminError> send_all(int fd, std::string_view text,
                                         Clock::time_point deadline) {
  while (!text.empty()) {
    const ssize_t size = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size > 0) {
      text.remove_prefix(static_cast<std::size_t>(size));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN)
      return failure(AdminError::Kind::failed, std::string("sending: ") + std::strerror(errno));
    if (!wait_for(fd, POLLOUT, deadline))
      return failure(AdminError::Kind::failed, "sluice does not take the request");
  }
  return {};
}

std::expected<std::string, AdminError> receive_all(int fd, Clock::time_point deadline) {
  std::string text;
  char buffer[64 * 1024];
  for (;;) {
    if (!wait_for(fd, POLLIN, deadline))
      return failure(AdminError::Kind::failed, "sluice did not answer in time");
    const ssize_t size = ::recv(fd, buffer, sizeof buffer, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0)
      return failure(AdminError::Kind::failed, std::string("receiving: ") + std::strerror(errno));
    if (size == 0) return text;
    text.append(buffer, static_cast<std::size_t>(size));
    if (text.size() > kMaxResponse)
      return failure(AdminError::Kind::failed, "the answer is too long");
  }
}

std::expected<OwnedFd, AdminError> connect_admin(const std::string& socket_path) {
  sockaddr_un address{};
  if (socket_path.size() >= sizeof address.sun_path)
    return failure(AdminError::Kind::failed, socket_path + ": too long for a Unix socket");
  if (const std::string why = distrust_of_place(socket_path); !why.empty())
    return failure(AdminError::Kind::not_allowed, socket_path + ": " + why);
  OwnedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return connect_failure(socket_path, errno);
  return fd;
}

std::expected<json::object, AdminError> parse_object(const std::string& text) {
  boost::system::error_code error;
  json::value response = json::parse(text, error);
  if (error || !response.is_object())
    return failure(AdminError::Kind::failed, text.empty()
                                                 ? "sluice closed the connection without an answer"
                                                 : "the answer is not JSON");
  return std::move(response.as_object());
}

}  // namespace

std::expected<json::object, AdminError> ask_admin(const std::string& socket_path,
                                                  const json::object& request,
                                                  std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  const auto fd = connect_admin(socket_path);
  if (!fd) return std::unexpected(fd.error());
  if (auto sent = send_all(fd->get(), json::serialize(request) + "\n", deadline); !sent)
    return std::unexpected(sent.error());
  auto text = receive_all(fd->get(), deadline);
  if (!text) return std::unexpected(text.error());
  return parse_object(*text);
}

std::expected<void, AdminError> follow_admin(
    const std::string& socket_path, const json::object& request,
    const std::function<bool(const json::object&)>& on_line) {
  const auto fd = connect_admin(socket_path);
  if (!fd) return std::unexpected(fd.error());
  const auto deadline = Clock::now() + std::chrono::seconds(5);
  if (auto sent = send_all(fd->get(), json::serialize(request) + "\n", deadline); !sent)
    return std::unexpected(sent.error());
  std::string text;
  char buffer[64 * 1024];
  for (;;) {
    const ssize_t size = ::recv(fd->get(), buffer, sizeof buffer, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0)
      return failure(AdminError::Kind::failed, std::string("receiving: ") + std::strerror(errno));
    if (size == 0) return {};
    text.append(buffer, static_cast<std::size_t>(size));
    std::size_t begin = 0;
    for (std::size_t end = 0; (end = text.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      const auto line = parse_object(text.substr(begin, end - begin));
      if (!line) return std::unexpected(line.error());
      if (!on_line(*line)) return {};
    }
    text.erase(0, begin);
  }
}

}  // namespace sluice::gateway
