#include "gateway/accept_balance.h"

#include <unistd.h>
#include <utility>

#include <boost/asio/post.hpp>

#include "gateway/worker.h"

namespace sluice::gateway {

namespace asio = boost::asio;

// --- HandedConnection

HandedConnection::HandedConnection(std::shared_ptr<ListenerLoad> load, OverloadGuard& overload)
    : load_(std::move(load)), overload_(overload) {
  load_->open.fetch_add(1, std::memory_order_relaxed);
  load_->budget->open.fetch_add(1, std::memory_order_relaxed);
  overload_.connection_opened();
}

HandedConnection::HandedConnection(HandedConnection&& other) noexcept
    : fd(std::exchange(other.fd, -1)),
      listener(std::move(other.listener)),
      way(other.way),
      peer(other.peer),
      from(other.from),
      load_(std::move(other.load_)),
      overload_(other.overload_) {}

HandedConnection::~HandedConnection() {
  give_place_back();
  if (fd >= 0) ::close(fd);
}

int HandedConnection::take() {
  give_place_back();
  return std::exchange(fd, -1);
}

void HandedConnection::give_place_back() {
  const auto load = std::exchange(load_, nullptr);
  if (!load) return;
  load->open.fetch_sub(1, std::memory_order_relaxed);
  load->budget->open.fetch_sub(1, std::memory_order_relaxed);
  overload_.connection_closed();
}

// --- AcceptBalance

void AcceptBalance::join(std::uint32_t index, Worker& worker) {
  const std::lock_guard lock(mutex_);
  workers_[index] = &worker;
}

void AcceptBalance::leave(std::uint32_t index) {
  const std::lock_guard lock(mutex_);
  workers_[index] = nullptr;
}

// Few are shared out evenly; of many a quarter more is let be, since moving one costs two wake-ups.
std::uint32_t AcceptBalance::lighter(std::uint32_t index) const {
  const std::uint32_t own = open(index);
  if (own == 0) return index;
  std::uint32_t least = own;
  std::uint32_t found = index;
  for (std::uint32_t i = 0; i < places_.size(); ++i) {
    if (const std::uint32_t count = open(i); count < least) {
      least = count;
      found = i;
    }
  }
  return own < least + 1 + least / 4 ? index : found;
}

std::uint32_t AcceptBalance::place(std::uint32_t index) {
  const std::lock_guard lock(placing_);
  const std::uint32_t whose = lighter(index);
  opened(whose);
  return whose;
}

bool AcceptBalance::give(std::uint32_t to, HandedConnection& connection) {
  if (send(to, connection)) return true;
  closed(to);
  opened(connection.from);
  return false;
}

void AcceptBalance::give_back(std::uint32_t by, HandedConnection& connection) {
  closed(by);
  opened(connection.from);
  if (!send(connection.from, connection)) closed(connection.from);
}

bool AcceptBalance::send(std::uint32_t to, HandedConnection& connection) {
  const std::lock_guard lock(mutex_);
  Worker* const worker = workers_[to];
  if (worker == nullptr) return false;
  places_[connection.from].given.fetch_add(1);
  asio::post(worker->io(), [worker, on_its_way = std::move(connection)]() mutable {
    worker->take_handed(std::move(on_its_way));
  });
  return true;
}

void AcceptBalance::settled(std::uint32_t from) {
  places_[from].given.fetch_sub(1);
  if (!places_[from].draining.load()) return;
  const std::lock_guard lock(mutex_);
  if (Worker* const worker = workers_[from])
    asio::post(worker->io(), [worker] { worker->report_if_drained(); });
}

}  // namespace sluice::gateway
