#include "gateway/main/service_manager.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/socket.h>
#include <sys/un.h>

#include "kernel/keeper_protocol.h"

namespace sluice::control {

void tell_service_manager(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::strlen(path);
  if (length < 2 || length >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) return;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // the abstract namespace

  std::string text(state);
  if (text.starts_with("RELOADING=1")) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    text += "\nMONOTONIC_USEC=" +
            std::to_string(static_cast<long long>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000);
  }
  const kernel::protocol::OwnedFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  const int patience = text == "WATCHDOG=1" ? MSG_DONTWAIT : 0;
  (void)::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | patience,
                 reinterpret_cast<const sockaddr*>(&address), size);
}

}  // namespace sluice::control
