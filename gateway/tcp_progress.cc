#include "gateway/tcp_progress.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace sluice::gateway {

// bytes_acked counts the SYN as one byte (RFC 4898: tcpEStatsAppHCThruOctetsAcked; tcp_info in
// linux/tcp.h).
bool nothing_acknowledged(int fd, std::uint64_t bytes) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  const std::uint64_t sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
  const std::uint64_t acknowledged = info.tcpi_bytes_acked == 0 ? 0 : info.tcpi_bytes_acked - 1;
  return sent >= acknowledged && sent - acknowledged >= bytes;
}

}  // namespace sluice::gateway
