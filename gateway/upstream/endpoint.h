// What is known of one endpoint of an upstream. Shared by all workers and the control thread:
// atomics only.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <string_view>

#include "policy/address.h"

namespace sluice::gateway {

inline constexpr std::size_t kCacheLine = 64;

// How a try at an endpoint ended, as far as the endpoint is to blame.
enum class Outcome : std::uint8_t {
  success,          // an answer below 500
  server_error,     // an answer of 500 or more, but the next
  gateway_error,    // 502, 503, 504: it has nobody behind it
  connect_failure,  // refused, unreachable
  connect_timeout,
  reset,    // ended before a whole answer
  timeout,  // no first byte in time
  neutral,  // says nothing about the endpoint: the client went away, our own limits
};
inline constexpr std::size_t kOutcomes = 8;

// What an answer says.
constexpr Outcome outcome_of_status(int status) {
  if (status < 500) return Outcome::success;
  return status >= 502 && status <= 504 ? Outcome::gateway_error : Outcome::server_error;
}

// Rises with every change of who may be picked; one for all endpoints of an upstream.
class ChangeCount {
 public:
  std::uint64_t get() const { return count_.load(std::memory_order_acquire); }
  void add() { count_.fetch_add(1, std::memory_order_release); }

 private:
  std::atomic<std::uint64_t> count_{1};
};

// Totals since the endpoint became known; they only rise.
struct EndpointTotals {
  std::uint64_t requests = 0;  // tries begun
  std::array<std::uint64_t, kOutcomes> outcomes{};
  std::uint64_t connections = 0;  // established
  std::uint64_t reused = 0;       // tries on a pooled connection
  std::uint64_t ejections = 0;
  std::uint64_t health_changes = 0;  // of the active check, either way
};

class Endpoint : public std::enable_shared_from_this<Endpoint> {
 public:
  // `server_name`: what TLS asks for and verifies where the policy leaves that open; "": none.
  Endpoint(policy::SocketAddress address, std::uint32_t weight,
           std::shared_ptr<ChangeCount> changes = std::make_shared<ChangeCount>(),
           std::string_view server_name = {})
      : address_(address),
        name_(address.to_string()),
        server_name_(server_name),
        changes_(std::move(changes)),
        weight_(weight) {}
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  const policy::SocketAddress& address() const { return address_; }
  const std::string& name() const { return name_; }  // "10.0.0.1:80"

  const std::string& server_name() const { return server_name_; }

  // What `upstreams.X.protocol: auto` has found out about it.
  bool speaks_http1_only() const { return http1_only_.load(std::memory_order_relaxed); }
  void set_speaks_http1_only(bool only) { http1_only_.store(only, std::memory_order_relaxed); }
  // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 section 6.5.2) that it said last.
  std::uint32_t max_streams() const { return max_streams_.load(std::memory_order_relaxed); }
  void set_max_streams(std::uint32_t most) {
    if (max_streams() != most) max_streams_.store(most, std::memory_order_relaxed);
  }

  std::uint32_t weight() const { return weight_.load(std::memory_order_relaxed); }
  void set_weight(std::uint32_t weight) { change(weight_, weight); }
  std::uint32_t priority() const { return priority_.load(std::memory_order_relaxed); }
  void set_priority(std::uint32_t priority) { change(priority_, priority); }

  // False: the active check says that it is down. True without a check.
  bool healthy() const { return healthy_.load(std::memory_order_relaxed); }
  // `now`: slow start begins anew when it comes back.
  void set_healthy(bool healthy, std::chrono::steady_clock::time_point now);
  // An operator took it out: gets no new requests.
  bool drained() const { return drained_.load(std::memory_order_relaxed); }
  void set_drained(bool drained) { change(drained_, drained); }
  bool ejected(std::chrono::steady_clock::time_point now) const {
    return now.time_since_epoch().count() < ejected_until_.load(std::memory_order_relaxed);
  }
  bool available(std::chrono::steady_clock::time_point now) const {
    return healthy() && !drained() && !ejected(now);
  }

  std::int64_t ejected_until() const {  // steady_clock; 0: never was
    return ejected_until_.load(std::memory_order_relaxed);
  }
  // Since when it has been in use without a break, for slow start; 0: from the start on.
  std::int64_t usable_since() const {
    return std::max(usable_since_.load(std::memory_order_relaxed), ejected_until());
  }
  void came(std::chrono::steady_clock::time_point now) {
    usable_since_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  }

  // For peak EWMA. Workers may overwrite each other's observation: one lost among many does no
  // harm.
  void observe_latency(std::chrono::nanoseconds latency, std::chrono::steady_clock::time_point now);
  double peak_cost(std::chrono::steady_clock::time_point now) const;

  std::uint32_t active_requests() const { return active_requests_.load(std::memory_order_relaxed); }
  std::uint32_t open_connections() const {
    return open_connections_.load(std::memory_order_relaxed);
  }
  // A connection more; false when there are `max` already (0: no bound).
  bool try_add_connection(std::uint32_t max) {
    const std::uint32_t before = open_connections_.fetch_add(1, std::memory_order_relaxed);
    if (max == 0 || before < max) return true;
    open_connections_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  EndpointTotals totals() const;

 private:
  friend class Attempt;
  friend class OutlierDetector;
  friend class EndpointPool;
  friend class UpstreamConnection;
  friend class HealthChecker;

  template <typename T>
  void change(std::atomic<T>& field, T value) {
    if (field.exchange(value, std::memory_order_relaxed) != value) changes_->add();
  }

  const policy::SocketAddress address_;
  const std::string name_;
  const std::string server_name_;
  const std::shared_ptr<ChangeCount> changes_;

  // Written for each request.
  alignas(kCacheLine) std::atomic<std::uint32_t> active_requests_{0};
  std::atomic<std::uint32_t> open_connections_{0};  // including those that are being opened
  std::atomic<std::uint64_t> requests_{0};
  std::atomic<std::uint64_t> reused_{0};
  std::array<std::atomic<std::uint64_t>, kOutcomes> outcomes_{};
  std::atomic<double> latency_{0};  // ns; policy::PeakEwma
  std::atomic<std::int64_t> latency_at_{0};

  // Written when something changes; read by every pick.
  alignas(kCacheLine) std::atomic<std::int64_t> ejected_until_{0};  // steady_clock; 0: never was
  std::atomic<std::int64_t> usable_since_{0};
  std::atomic<std::uint32_t> weight_;
  std::atomic<std::uint32_t> priority_{0};
  std::atomic<bool> healthy_{true};
  std::atomic<bool> drained_{false};
  std::atomic<bool> http1_only_{false};
  std::atomic<std::uint32_t> max_streams_{std::numeric_limits<std::uint32_t>::max()};
  std::atomic<bool> ejected_for_connect_{false};
  std::atomic<std::uint32_t> consecutive_5xx_{0};
  std::atomic<std::uint32_t> consecutive_gateway_errors_{0};
  std::atomic<std::uint32_t> consecutive_connect_failures_{0};
  std::atomic<std::uint32_t> ejections_in_row_{
      0};  // each one lasts longer; back to 0 with a healthy stretch
  std::atomic<std::uint64_t> ejections_{0};
  std::atomic<std::uint64_t> connections_{0};
  std::atomic<std::uint64_t> health_changes_{0};
};

}  // namespace sluice::gateway
