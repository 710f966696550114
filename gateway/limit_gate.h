// Phase limits, of one request or connection: places, rates of this node, rates of the cluster,
// then the wait of those that delay.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gateway/timer_wheel.h"
#include "gateway/worker_config.h"
#include "policy/limits.h"
#include "policy/request.h"

namespace sluice::gateway {

class Worker;
struct LimitDecision;

// Called on the worker's thread, never from within LimitGate::begin().
class LimitGateUser {
 public:
  virtual void on_limits_passed() = 0;
  virtual void on_limits_refused() = 0;

 protected:
  ~LimitGateUser() = default;
};

// One limit refuses: those that are asked before it have given back what they gave. Rates that
// Redis decides are asked last, so that what they refuse has used up the others.
class LimitGate {
 public:
  static constexpr std::size_t kMaxLimits = policy::kMaxRouteLimits;

  enum class Result : std::uint8_t { passed, refused, waiting };

  // `user`: null where nothing waits (listeners).
  LimitGate(Worker& worker, LimitGateUser* user) : worker_(worker), user_(user) {}
  ~LimitGate() { release(); }

  // `request` is not used after the call. With `waiting`, the user is called in the end.
  Result begin(const WorkerConfig& config, std::span<const policy::UsedLimit> limits,
               const policy::RequestView& request, std::uint64_t route_id, std::uint64_t now_ns);
  // The same for those that count tokens, by an estimate.
  Result begin_tokens(const WorkerConfig& config, std::span<const policy::UsedLimit> limits,
                      const policy::RequestView& request, std::uint64_t route_id,
                      std::uint64_t tokens, std::uint64_t now_ns);
  // What it was in the end, in place of the estimate.
  void settle_tokens(std::uint64_t used);
  // The end of the request: gives back its places and what was not settled, waits no longer.
  void release();

  // After `refused`.
  const policy::LimitHandle& refused_by() const { return config_->limit(refused_by_); }
  const policy::LimitVerdict& verdict() const { return verdict_; }
  bool banned() const { return banned_; }  // and a ban of the source has been asked for

  // For connections: the places go with them.
  std::vector<policy::ConcurrencyLease> take_places() { return std::move(places_); }

 private:
  struct Asked {
    std::uint32_t limit;
    std::uint32_t cost;
    policy::LimitKeys keys;
  };
  struct TakenTokens {
    Asked asked;
    bool shared = false;
  };
  using Keys = std::array<policy::LimitKeys, kMaxLimits>;

  void begin_for(const WorkerConfig& config, const policy::RequestView& request);
  bool take_tokens(const Asked& asked, const policy::LimitVerdict& verdict, bool shared);
  bool take_places(std::span<const policy::UsedLimit> limits, const Keys& keys);
  bool peek_rates(std::span<const policy::UsedLimit> limits, const Keys& keys,
                  std::uint64_t now_ns);
  bool take_rates(std::span<const policy::UsedLimit> limits, const Keys& keys,
                  std::uint64_t now_ns);
  bool take_leased(std::span<const policy::UsedLimit> limits, const Keys& keys,
                   std::uint64_t now_ns);
  Result go_on();
  void ask(const Asked& asked);
  void answered(std::optional<bool> allowed);
  void on_timer();
  bool exceeded(std::uint32_t limit, const policy::LimitVerdict& verdict);
  void allowed(std::uint32_t limit);

  Worker& worker_;
  LimitGateUser* user_;
  const WorkerConfig* config_ = nullptr;
  policy::IpAddress source_;
  bool claimed_ = false;  // by a proxy: never banned in the kernel
  std::vector<policy::ConcurrencyLease> places_;
  std::vector<TakenTokens> tokens_;
  std::vector<Asked> asked_;  // that Redis decides, the next one last
  std::shared_ptr<LimitDecision> decision_;
  std::uint64_t delay_ns_ = 0;
  std::uint32_t refused_by_ = 0;
  policy::LimitVerdict verdict_;
  bool banned_ = false;
  WheelTimer timer_ = WheelTimer::calling<&LimitGate::on_timer>(this);
};

}  // namespace sluice::gateway
