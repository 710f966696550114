#include "gateway/main/banned_connections.h"

#include <algorithm>

#include "gateway/log.h"

namespace sluice::control {

namespace {
// Between a ban and the end of what its source has open: others may come meanwhile.
constexpr std::chrono::steady_clock::duration kPause = std::chrono::milliseconds(2);
}  // namespace

BannedConnections::BannedConnections(boost::asio::io_context& io, kernel::Keeper& keeper)
    : keeper_(keeper), timer_(io), pause_(kPause) {}

void BannedConnections::end_soon() {
  if (waiting_) return;
  waiting_ = true;
  timer_.expires_after(pause_);
  timer_.async_wait([this](const boost::system::error_code& error) {
    waiting_ = false;
    if (!error) end();
  });
}

void BannedConnections::end() {
  const auto began = std::chrono::steady_clock::now();
  if (const auto ended = keeper_.end_banned_connections(); !ended)
    gateway::log_warn("bans", "cannot end connections of a banned source",
                      {{"reason", ended.error().message}});
  const auto took = std::chrono::steady_clock::now() - began;
  pause_ = std::max<std::chrono::steady_clock::duration>(kPause, 9 * took);
}

}  // namespace sluice::control
