#include "gateway/express_looks.h"

#include <utility>

#include "gateway/transport.h"

namespace sluice::gateway {

namespace asio = boost::asio;

asio::execution_context::id ExpressLooks::id;

ExpressLooks::ExpressLooks(asio::execution_context& io)
    : service(io), timer_(static_cast<asio::io_context&>(io)) {}

ExpressLooks::~ExpressLooks() = default;

void ExpressLooks::shutdown() {
  waiting_.clear();
}

void ExpressLooks::add(Transport& transport) {
  if (!transport.set_looked_after(true))
    waiting_.push_back({RefPtr(&transport), transport.wait_number()});
  if (!armed_) arm();
}

void ExpressLooks::arm() {
  armed_ = true;
  timer_.expires_after(kPeriod);
  timer_.async_wait([this](const boost::system::error_code& ended) {
    armed_ = false;
    if (!ended) look();
  });
}

// Who has waited since the last time is looked at, once; who is busy is kept.
void ExpressLooks::look() {
  std::swap(waiting_, looking_);
  for (auto& [transport, wait] : looking_) {
    const std::uint32_t now = transport->wait_number();
    if (transport->waits_unsure() && wait != now) {
      waiting_.push_back({std::move(transport), now});
      continue;
    }
    transport->set_looked_after(false);
    if (transport->waits_unsure()) transport->look_again();
  }
  looking_.clear();
  if (!waiting_.empty() && !armed_) arm();
}

}  // namespace sluice::gateway
