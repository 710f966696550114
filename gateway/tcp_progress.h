// How much of what was sent on a TCP connection its peer has taken.
#pragma once

#include <cstdint>

namespace sluice::gateway {

// True when the peer's TCP has acknowledged none of the last `bytes` that were sent: then nobody
// there can have acted upon them. False when unknown.
bool nothing_acknowledged(int fd, std::uint64_t bytes);

}  // namespace sluice::gateway
