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
  // Places that other workers give back wake nobody here.
  wheel_.arm(mine->look, ClusterLocal::kLook);
  return true;
}

void ClusterLocal::kept_idle(const EndpointPool& pool) {
  const bool full = pool.endpoint_is_full() || shared->open_connections() >= limits_.connections;
  if (!full || look.armed()) return;
  worker_.wheel().arm(look, kLookForOthers);
}

// Workers do not call each other: who waits looks for places that others gave back, and who keeps
// idle connections looks for others that wait.
void ClusterLocal::on_look() {
  if (!waiting.empty()) {
    worker_.wheel().arm(look, kLook);
    if (!idle.empty() && shared->pending() > waiting.size()) give_way();
    return wake();
  }
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
