#include "gateway/express.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace sluice::gateway {

bool ExpressLane::offer(int fd) {
  return ::setsockopt(fd, IPPROTO_TCP, TCP_SAVE_SYN, &kSign, sizeof kSign) == 0;
}

// Whose first bytes come by TCP is not in the lane; a direction that came by it may leave it later.
void ExpressLane::note(std::size_t bytes, bool by_lane) {
  unheard_ = 0;
  heard_ += bytes;
  inwards_ = by_lane;
  if (!known_) watched_ = outwards_ = by_lane;
  known_ = true;
}

void ExpressLane::leave(int fd) {
  if (!outwards_) return;
  outwards_ = false;
  ::setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &kLeaves, sizeof kLeaves);
}

}  // namespace sluice::gateway
