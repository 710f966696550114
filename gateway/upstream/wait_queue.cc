#include "gateway/upstream/wait_queue.h"

#include <algorithm>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/post.hpp>

#include "gateway/upstream/worker_state.h"

namespace sluice::gateway {

void Waiter::leave() {
  if (state_ == nullptr) return;
  std::exchange(state_, nullptr)->remove_pending();
  hook.unlink();
  timer_.cancel();
}

void Waiter::on_timer() {
  leave();
  user_.on_queue_timeout();
}

bool UpstreamWorkerState::wait(const Cluster& cluster, Waiter& waiter) {
  const RefPtr<ClusterLocal> mine = local(cluster);
  const policy::Upstream& config = cluster.config();
  if (waiter.waiting()) {
    mine->again_.push_back(waiter);  // it was there already: nobody overtakes it
  } else {
    if (config.queue_timeout.count() == 0) return false;
    if (!cluster.state().try_add_pending(config.circuit_breakers.pending)) return false;
    waiter.state_ = &cluster.state();
    wheel_.arm(waiter.timer_, config.queue_timeout);
    mine->waiting.push_back(waiter);
  }
  // Places that other workers give back wake nobody here. Who comes does not put the look off.
  if (!mine->look.armed() || mine->look.deadline() > wheel_.now() + 2 * ClusterLocal::kLook)
    wheel_.arm(mine->look, ClusterLocal::kLook);
  return true;
}

bool ClusterLocal::full(const EndpointPool& pool, std::uint32_t more) const {
  return pool.endpoint_is_full(more) || shared->open_connections() + more >= limits_.connections;
}

void ClusterLocal::kept_idle(const EndpointPool& pool) {
  if (!full(pool) || look.armed()) return;
  worker_.wheel().arm(look, kLookForOthers);
}

// Workers do not call each other: who waits looks for places that others gave back, and who keeps
// idle connections looks for others that wait.
void ClusterLocal::on_look() {
  if (!waiting.empty()) {
    worker_.wheel().arm(look, kLook);
    const std::size_t own_waiting = waiting.size();
    if (!idle.empty() && shared->pending() > own_waiting) give_way();
    looks_in_debt_ = more_than_share(own_waiting) ? looks_in_debt_ + 1 : 0;
    return wake();
  }
  looks_in_debt_ = 0;
  if (idle.empty()) return;
  worker_.wheel().arm(look, kLookForOthers);
  if (shared->pending() > 0) idle.front().make_room();
}

// Nobody here can use it, since some wait: they belong to other endpoints, or are other clients'.
// Others may have the same of what these want.
void ClusterLocal::give_way() {
  const auto held = std::ranges::find_if(
      idle, [](const UpstreamConnection& one) { return one.pool().endpoint_is_full(); });
  if (held != idle.end()) held->make_room();
}

// A place for each that waits would be just; who has more serves its own clients only.
bool ClusterLocal::more_than_share(std::size_t own_waiting) const {
  const std::uint64_t all_waiting = shared->pending();
  return all_waiting > own_waiting &&
         places_ * all_waiting > std::uint64_t{shared->open_connections()} * own_waiting;
}

// Who waits elsewhere sees a free place at its next look; who waits here, or comes, at once.
void ClusterLocal::place_given_back(bool was_scarce) {
  --places_;
  const SteadyTime now = worker_.wheel().now();
  const bool others_turn =
      owes_place() || (others_wait() && now >= left_to_others_ + kPatience * kLook);
  if (!was_scarce || !others_turn) return wake();
  looks_in_debt_ = 0;
  left_to_others_ = now + 4 * kLook;  // the wheel rounds their looks up
}

bool ClusterLocal::leaves_last_place(const EndpointPool& pool) const {
  return worker_.wheel().now() < left_to_others_ && full(pool, 1);
}

void ClusterLocal::wake(std::uint32_t places) {
  if (waiting.empty()) return;
  const std::uint32_t before = wakes_;
  wakes_ += std::min(places, kAllPlaces - wakes_);
  if (before > 0) return;
  boost::asio::post(worker_.io(),
                    boost::asio::bind_allocator(HandlerAllocator<std::byte>(wake_memory_),
                                                [self = RefPtr(this)] { self->call_waiting(); }));
}

// Who cannot use the place leaves it to the next, a few times: it belongs to another endpoint.
void ClusterLocal::call_waiting() {
  std::uint32_t left = std::exchange(wakes_, 0);
  for (std::uint32_t passed = 0; left > 0 && !waiting.empty();) {
    const Waiter* const last = again_.empty() ? nullptr : &again_.back();
    Waiter& first = waiting.front();
    waiting.pop_front();
    first.user_.on_place();
    const bool waits_on = !again_.empty() && &again_.back() != last;
    if (!waits_on || ++passed > kPassed) --left;
  }
  waiting.splice(waiting.begin(), again_);
}

}  // namespace sluice::gateway
