// Keeps one gateway process serving: starts it, feeds it the policy and the sockets, starts the
// next one when it dies.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>

#include "gateway/main/gateway_child.h"
#include "kernel/keeper.h"
#include "policy/document.h"

namespace sluice::control {

// One generation of what a gateway serves. Descriptors stay the keeper's; the gateway gets
// duplicates.
struct GatewayOffer {
  std::uint64_t generation = 0;
  std::vector<policy::PolicyFile> files;
  std::vector<kernel::protocol::Sockets::Entry> entries;
  std::vector<int> descriptors;  // one for each entry
};

// One thread.
class GatewaySupervisor {
 public:
  using Clock = std::chrono::steady_clock;
  using Done = std::function<void(std::expected<void, std::string>)>;
  using Answered = std::function<void(std::expected<std::string, std::string>)>;

  struct Hooks {
    std::function<GatewayOffer()> current;  // what a gateway that starts has to serve
    std::function<void()> ready;  // a gateway serves: the first one, and each after a death
    std::function<void()> died;
    std::function<void(const kernel::protocol::Ban&)> ban;
    std::function<std::vector<kernel::protocol::KernelSample>()> samples;
  };

  GatewaySupervisor(boost::asio::io_context& io, kernel::protocol::Hello hello, Hooks hooks);
  ~GatewaySupervisor();  // ends the gateway at once

  void start();
  void child_signal();  // call on SIGCHLD

  // The two halves of a reload. `done` of prepare comes once: with the gateway's word, when it
  // dies, or after 30 s.
  void prepare(const GatewayOffer& offer, Done done);
  void commit(std::uint64_t generation,
              std::function<void()> done);  // also when the gateway dies: the next starts there
  void abandon(std::uint64_t generation);

  void ask(const std::string& command, Answered answered);  // 2 s at most
  void tell(const kernel::protocol::Message& message);      // lost when there is none
  // Finishes what is open; `done` when it has, or when the deadline and two seconds more have
  // passed.
  void drain(std::chrono::milliseconds deadline, std::function<void()> done);

  bool ready() const { return ready_; }
  // Ready, and its control thread has been heard of within 3 s.
  bool alive() const;
  std::uint32_t restarts() const { return restarts_; }
  boost::json::object status() const;

 private:
  struct Question {
    std::string text;
    Answered answered;
    std::unique_ptr<boost::asio::steady_timer> timer;
  };

  void spawn();
  void schedule_spawn();
  void offer(const GatewayOffer& offer);
  void received(kernel::protocol::Received received);
  void handle(const kernel::protocol::Prepared& message);
  void handle(const kernel::protocol::Committed& message);
  void handle(const kernel::protocol::Ready& message);
  void handle(kernel::protocol::Reply& message);
  void send_samples();
  void child_ended(const std::string& how);
  void finish_prepare(std::expected<void, std::string> result);

  boost::asio::io_context& io_;
  kernel::protocol::Hello hello_;
  Hooks hooks_;
  std::unique_ptr<GatewayChild> child_;
  boost::asio::steady_timer spawn_timer_;
  boost::asio::steady_timer prepare_timer_;
  boost::asio::steady_timer drain_timer_;
  std::uint64_t preparing_ = 0;  // the generation that `prepared_` waits for
  Done prepared_;
  std::function<void()> committed_;
  std::function<void()> drained_;
  std::uint64_t first_generation_ = 0;  // what this gateway was started with
  std::map<std::uint64_t, Question> questions_;
  std::uint64_t next_question_ = 1;
  Clock::time_point started_{};
  Clock::time_point heard_{};
  std::uint32_t restarts_ = 0;
  std::uint32_t quick_deaths_ = 0;
  bool ready_ = false;
  bool draining_ = false;
};

}  // namespace sluice::control
