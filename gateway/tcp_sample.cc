#include "gateway/tcp_sample.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace sluice::gateway {

std::optional<NetworkSample> sample_tcp(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  return NetworkSample{.round_trip = std::chrono::microseconds(info.tcpi_rtt),
                       .retransmits = info.tcpi_total_retrans};
}

}  // namespace sluice::gateway
