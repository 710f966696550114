// Accepts one listener's connections of one way in, on one worker.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "gateway/connection_budget.h"
#include "gateway/gateway.h"
#include "gateway/metrics_counters.h"
#include "gateway/refcounted.h"
#include "gateway/timer_wheel.h"
#include "gateway/upstream/handler_memory.h"
#include "gateway/worker_config.h"
#include "policy/config.h"
#include "policy/limits_concurrency.h"

namespace sluice::gateway {

class Worker;
struct Client;

// Open connections of a listener over all workers and ways, against its max_connections, and of the
// whole process against its descriptors.
struct ListenerLoad {
  explicit ListenerLoad(std::shared_ptr<ConnectionBudget> of_process)
      : budget(std::move(of_process)) {}
  std::atomic<std::uint32_t> open{0};
  const std::shared_ptr<ConnectionBudget> budget;
};

// Its worker's thread only. Lives as long as its last connection.
class Listener : public RefCounted<Listener> {
 public:
  // `fd`: listening; owned from here on.
  Listener(Worker& worker, ListenerSocket socket, std::shared_ptr<ListenerLoad> load);
  ~Listener();

  // Its place in the worker's new policy; none: it is gone, and takes no more requests.
  void configure(std::optional<std::uint32_t> index);
  void start();
  void stop();  // accepts no more; open connections are not touched
  // An accepted connection that AcceptBalance has counted as this worker's. False: no descriptors
  // are left.
  bool take(int fd, const std::optional<policy::SocketAddress>& peer);
  // Goes on with another socket, unless it is the same one in another descriptor.
  void replace(int fd);

  const std::string& name() const { return name_; }
  WayIn way() const { return way_; }
  bool gone() const { return gone_; }
  std::uint32_t index() const { return index_; }  // in the policy that last named it
  ListenerSlot slot() const { return slot_; }
  const policy::Listener& policy() const { return *policy_; }
  // How it ends TLS: the newest policy's, with the newest certificates. Null: not at all.
  const tls::ServerContextPtr& tls() const { return config_->tls().listener(index_); }
  // Where it listens; meaningless but for `bind`.
  const policy::SocketAddress& address() const { return address_; }

  // A PROXY protocol header comes first: `peer` is not the client.
  bool expects_proxy_header(const policy::IpAddress& peer) const;
  // Access rules and limits, of a client that such a header has named. False: it must go.
  bool admit(Client& client);
  // A line for a connection that ends before there is a request. `host`: that it asked for by TLS.
  void log_refused(const policy::SocketAddress& client, std::uint64_t connection,
                   std::string_view reason, std::string_view host = {});

  void connection_opened();
  void connection_closed();
  const std::shared_ptr<ListenerLoad>& load() const { return load_; }
  std::uint32_t open_connections() const { return load_->open.load(std::memory_order_relaxed); }

 private:
  using Acceptor = boost::asio::basic_socket_acceptor<boost::asio::ip::tcp,
                                                      boost::asio::io_context::executor_type>;
  static constexpr int kBatch = 64;  // connections accepted before other work has its turn

  void open(int fd);
  void wait();
  void on_acceptable();
  bool accept_one();  // false: wait, or paused
  // Access rules and limits, before a byte is read; nullopt: refused. `claimed`: by a proxy.
  std::optional<std::vector<policy::ConcurrencyLease>> admit(int fd,
                                                             const policy::SocketAddress& client,
                                                             bool claimed);
  bool may_accept();  // false: paused
  void pause();
  void pause_for_resources(std::string_view what);
  void backlog_is_empty();
  void on_pause_over();

  Worker& worker_;
  const std::string name_;
  const WayIn way_;
  std::shared_ptr<ListenerLoad> load_;
  Acceptor acceptor_;
  RefPtr<WorkerConfig> config_;  // the last that named it; keeps policy_ and slot_
  const policy::Listener* policy_ = nullptr;
  policy::SocketAddress address_;
  std::uint32_t index_ = 0;
  ListenerSlot slot_{};
  bool gone_ = false;
  bool waiting_ = false;
  bool accepting_ = false;
  bool full_ = false;       // at max_connections, or the budget used up, when it last looked
  bool starving_ = false;   // paused for want of descriptors, and not through the backlog since
  bool said_so_ = false;    // … and logged
  SteadyTime last_said_{};  // at most once a minute
  WheelTimer pause_ = WheelTimer::calling<&Listener::on_pause_over>(this);
  HandlerMemory memory_;
};

}  // namespace sluice::gateway
