// Requests that wait for a connection which circuit breakers hold back, or for DNS.
#pragma once

#include <chrono>
#include <cstdint>

#include <boost/intrusive/list.hpp>

#include "gateway/timer_wheel.h"

namespace sluice::gateway {

class ClusterState;

// Who waits. Called on the worker's thread, never from within a call.
class WaitUser {
 public:
  virtual void on_place() = 0;  // it is worth trying again; UpstreamWorker::wait() if in vain
  virtual void on_queue_timeout() = 0;

 protected:
  ~WaitUser() = default;
};

// One request's place in its upstream's queue; a member of who waits, used again and again. Gives
// its place up when it goes.
class Waiter {
 public:
  explicit Waiter(WaitUser& user) : user_(user) {}
  ~Waiter() { leave(); }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  bool waiting() const { return state_ != nullptr; }
  // It has what it waited for, or wants it no more. Harmless when it does not wait.
  void leave();

  boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>
      hook;

 private:
  friend class ClusterLocal;
  friend class UpstreamWorkerState;
  void on_timer();

  WaitUser& user_;
  ClusterState* state_ = nullptr;                                    // counts it as pending
  WheelTimer timer_ = WheelTimer::calling<&Waiter::on_timer>(this);  // queue_timeout
};

using WaitQueue = boost::intrusive::list<
    Waiter,
    boost::intrusive::member_hook<Waiter,
                                  boost::intrusive::list_member_hook<
                                      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>,
                                  &Waiter::hook>,
    boost::intrusive::constant_time_size<false>>;

}  // namespace sluice::gateway
