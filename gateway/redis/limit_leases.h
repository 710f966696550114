// Limits of scope `cluster`: leases from Redis, ahead of need, and the decisions that Redis takes
// itself. What the numbers mean is in policy/limits_cluster.h; of what is counted for single callers
// of language models, in shared_accounts.h.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/metrics_samples.h"
#include "gateway/redis/client.h"
#include "gateway/redis/shared_accounts.h"
#include "policy/limits.h"

namespace sluice::gateway {

// A question on its way. `done` belongs to the worker's thread, which may clear it at any time;
// none: Redis cannot be asked.
struct LimitDecision {
  boost::asio::io_context* worker = nullptr;
  std::function<void(std::optional<bool> allowed)> done;
  // It was let in when nobody waited any more.
  std::function<void()> unwanted = {};
};

class LimitLeases {
 public:
  LimitLeases(boost::asio::io_context& control, std::uint32_t own_mark);
  ~LimitLeases();  // control thread

  // --- control thread ---
  // The policy's Redis, if any, and its limits. The connection is kept where nothing of it changed.
  // `tls`: for a Redis with `tls`. `accounts`: take() and charge() will be used.
  void configure(const std::optional<policy::RedisConfig>& config,
                 const std::vector<policy::LimitHandle>& limits, const tls::ClientContextPtr& tls,
                 bool accounts);
  std::vector<MetricSample> samples() const;
  struct Server {
    std::string host;                              // as the policy calls it
    std::optional<policy::SocketAddress> address;  // where it was found last
    bool connected = false;
  };
  std::optional<Server> server() const;  // nullopt: none is needed
  void close();  // asks nothing more and answers nobody; call before workers go

  // --- any thread ---
  void ask(const std::shared_ptr<policy::ClusterTable>& table, std::uint64_t key);
  void decide(const std::shared_ptr<policy::ClusterTable>& table, const policy::LimitKeys& keys,
              std::uint32_t cost, std::shared_ptr<LimitDecision> decision);
  // Of what Redis has let in for `estimated`, `used` it was in the end.
  void settle(const policy::ClusterTable& table, std::uint64_t key, std::uint64_t estimated,
              std::uint64_t used);
  void take(std::shared_ptr<SharedTake> take);
  // While Redis is away they wait, a bounded number of them.
  void charge(std::vector<SharedCharge> charges);
  // As last known, this one included.
  std::uint32_t gateways() const { return gateways_.load(std::memory_order_relaxed); }

 private:
  struct Item {
    std::shared_ptr<policy::ClusterTable> table;
    policy::LimitKeys keys;  // of a lease: `own` alone
    std::uint32_t cost = 0;
    std::shared_ptr<LimitDecision> decision;  // null: a lease
  };
  static constexpr std::size_t kMostWaiting = 20'000;  // charges

  void evaluate(const SharedCharge& charge);
  void evaluate(const std::shared_ptr<SharedTake>& take);
  void send(const redis::Words& words, redis::Client::Done done);
  void keep(const SharedCharge& charge);

  void push(Item item);
  void post_queue();  // with the lock
  void send_all();
  void lease(const Item& item);
  void decide(const Item& item);
  void evaluate(const Item& item, const policy::LeaseRequest& request, bool all_or_nothing,
                redis::Client::Done done);
  void up();
  void down(const std::string& reason);
  void register_gateway();

  boost::asio::io_context& control_;
  const std::uint32_t own_mark_;
  const std::string gateway_id_;  // in Redis' list of gateways
  std::optional<policy::RedisConfig> config_;
  tls::ClientContextPtr tls_;
  std::vector<std::shared_ptr<policy::ClusterTable>> tables_;
  std::unique_ptr<redis::Client> client_;
  boost::asio::steady_timer heartbeat_;
  std::string script_sha_;
  std::string take_sha_;
  std::string charge_sha_;
  bool accounts_ = false;
  std::map<std::string, SharedCharge> waiting_;  // charges, by key
  std::atomic<std::uint32_t> gateways_{1};
  bool in_use_ = false;  // Redis has said how many gateways there are
  std::uint64_t leases_ = 0;
  std::uint64_t decisions_ = 0;
  std::uint64_t losses_ = 0;

  std::mutex mutex_;  // of what follows
  std::vector<Item> queue_;
  std::vector<std::shared_ptr<SharedTake>> takes_;
  std::vector<SharedCharge> charges_;
  bool posted_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // control thread's
};

}  // namespace sluice::gateway
