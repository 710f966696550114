// Fetches key sets by URL, on one worker for all, through the upstreams' own pools.
#pragma once

#include <chrono>
#include <list>
#include <memory>

#include "gateway/auth/key_source.h"
#include "gateway/http/subrequest.h"
#include "gateway/timer_wheel.h"
#include "gateway/worker_config.h"

namespace sluice::gateway::auth {

// Its worker's thread only.
class KeyFetcher final : private http::SubrequestUser {
 public:
  explicit KeyFetcher(Worker& worker) : worker_(worker) {}
  ~KeyFetcher() { stop(); }

  void follow(RefPtr<WorkerConfig> config);
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  struct Target {
    explicit Target(Worker& worker) : request(worker) {}
    std::string name;  // of the auth entry
    std::shared_ptr<KeySource> source;
    policy::AuthUrl url;
    std::chrono::nanoseconds refresh{};
    std::uint32_t upstream = 0;
    Clock::time_point due;      // next fetch
    Clock::time_point not_before;  // whatever tokens ask for
    bool failing = false;
    http::Subrequest request;
  };

  void tick();
  void fetch(Target& target);
  void failed(Target& target, std::string_view why);
  void on_subrequest_ended(http::Subrequest& subrequest, http::SubrequestEnd end) override;

  Worker& worker_;
  RefPtr<WorkerConfig> config_;
  std::list<Target> targets_;
  WheelTimer timer_ = WheelTimer::calling<&KeyFetcher::tick>(this);
};

}  // namespace sluice::gateway::auth
