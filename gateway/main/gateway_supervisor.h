// Keeps one gateway process serving: starts it, feeds it the policy and the sockets, starts the
// next one when it dies, and lets one take another's place without a lost connection.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>

#include "gateway/main/gateway_child.h"
#include "gateway/main/hang_watch.h"
#include "gateway/tls/material.h"
#include "kernel/keeper.h"
#include "policy/document.h"

namespace sluice::control {

// One generation of what a gateway serves. Descriptors stay the keeper's; the gateway gets
// duplicates.
struct GatewayOffer {
  kernel::protocol::Hello hello;  // what a gateway learns once; another one needs another process
  std::uint64_t generation = 0;
  std::vector<policy::PolicyFile> files;
  std::vector<kernel::protocol::Sockets::Entry> entries;
  std::vector<int> descriptors;             // one for each entry
  gateway::tls::MaterialPtr material = {};  // null: the policy names no files
};

// A gateway process over an exec of the keeper. Its pid stays our child's.
struct GatewayLeft {
  pid_t pid = -1;
  int channel = -1;
  std::uint16_t protocol = kernel::protocol::kVersion;
  kernel::protocol::Hello hello;
  bool retired = false;
  std::chrono::milliseconds left{0};  // retired: until it is ended
};

// One thread.
class GatewaySupervisor {
 public:
  using Clock = std::chrono::steady_clock;
  using Done = std::function<void(std::expected<void, std::string>)>;
  using Answered = std::function<void(std::expected<std::string, std::string>)>;
  using Collected = std::function<void(std::optional<std::string>)>;

  struct Hooks {
    std::function<GatewayOffer()> current;  // what a gateway that starts has to serve
    std::function<void()> ready;  // a gateway serves: the first one, and each that follows it
    std::function<void()> died;
    std::function<void(const kernel::protocol::Ban&)> ban;
    std::function<std::vector<kernel::protocol::KernelSample>()> samples;
    std::function<std::chrono::milliseconds()> drain_deadline;  // of one that was replaced
    // Just before a gateway begins to serve: what another keeper's remembers by now; empty: as set.
    std::function<std::string()> remembered;
  };

  // `user`: who the gateway processes are; empty: as this one.
  GatewaySupervisor(boost::asio::io_context& io, std::string user, Hooks hooks);
  ~GatewaySupervisor();  // ends every gateway at once

  void start();
  // Instead of start(): goes on with those that were left running. False: none of them serves.
  bool adopt(const std::vector<GatewayLeft>& left);
  // For adopt() in the program that takes this one's place; nothing may be sent any more.
  std::vector<GatewayLeft> leave() const;
  bool idle() const;    // nothing waits: no prepare, no gateway that starts, no unsent message
  void child_signal();  // call on SIGCHLD

  // Ahead of prepare(): the gateway that serves compiles the policy while the keeper does, and
  // while the kernel is being prepared. prepare() of the same generation follows, which sends files
  // that differ again, or abandon(), or withdraw().
  void announce(std::uint64_t generation, const std::vector<policy::PolicyFile>& files);
  void withdraw(std::uint64_t generation);
  // The two halves of a reload. `done` of prepare comes once: with the gateway's word, when it
  // dies, or after 30 s. Where the gateway that serves cannot take the offer (another hello), or
  // with `replace`, a second one is started for it; after the commit the first stops accepting,
  // finishes what is open, and goes. One that does not start leaves the first as it was.
  void prepare(const GatewayOffer& offer, bool replace, Done done);
  // `done` comes with an error when the gateway died; the next one starts with what is current.
  void commit(std::uint64_t generation, Done done);
  void abandon(std::uint64_t generation);
  // Newer files for the policy in force.
  void refresh(std::uint64_t generation, const gateway::tls::Material& material);

  // What gateways that start from now on take over of the one before; bytes of its own.
  void set_memory(std::string bytes) { memory_ = std::move(bytes); }
  // Asks the one that serves; `collected` gets an empty text when it remembers nobody, and nullopt
  // when it does not answer. A gateway that takes another's place gets its memory in any case, and
  // the limits with it.
  void collect_memory(bool limits, Collected collected);

  void ask(const std::string& command, Answered answered);  // 2 s at most
  void tell(const kernel::protocol::Message& message);      // lost when there is none
  // Finishes what is open; `done` when it has, or when the deadline and two seconds more have
  // passed.
  void drain(std::chrono::milliseconds deadline, std::function<void()> done);

  // Another keeper's gateway serves: ours stops accepting, finishes, and goes at its deadline. None
  // is started any more.
  void retire_serving();

  bool ready() const { return serving_ != nullptr; }
  // Ready, and its control thread has been heard of within 3 s.
  bool alive() const;
  std::uint32_t restarts() const { return restarts_; }
  std::uint32_t replacements() const { return replacements_; }
  boost::json::object status() const;

 private:
  struct Instance {
    std::uint64_t id = 0;
    std::unique_ptr<GatewayChild> child{};
    kernel::protocol::Hello hello;
    std::uint64_t generation = 0;                       // that it was started with
    std::uint64_t announced = 0;                        // whose policy it has got ahead of the rest
    std::vector<policy::PolicyFile> announced_files{};  // that policy
    std::uint16_t protocol = kernel::protocol::kVersion;
    Clock::time_point started = Clock::now();
    Clock::time_point heard = Clock::now();
    Clock::time_point sampled{};  // when it got the kernel's numbers last
    std::unique_ptr<boost::asio::steady_timer> deadline{};  // retired: then it is ended
    bool spoken_to() const { return protocol == kernel::protocol::kVersion; }
  };
  struct Question {
    std::string text;
    Answered answered;
    std::unique_ptr<boost::asio::steady_timer> timer;
  };

  std::expected<std::unique_ptr<Instance>, std::string> spawn(const GatewayOffer& offer);
  std::unique_ptr<Instance> adopt(const GatewayLeft& left);
  void start_next();
  void schedule_start();
  void feed(Instance& instance, const GatewayOffer& offer);
  void forget(Instance& instance, std::uint64_t generation);  // one that will not come into force
  static void forget_announced(Instance& instance);
  bool send_policy(Instance& to, std::uint64_t generation,
                   const std::vector<policy::PolicyFile>& files);
  void promote_next();
  void retire(std::unique_ptr<Instance> instance, std::chrono::milliseconds deadline);
  void end_retired(std::uint64_t id);
  void end_if_drained();
  Instance* find(std::uint64_t id);
  void received(std::uint64_t from, kernel::protocol::Received received);
  void handle(Instance& from, const kernel::protocol::Prepared& message);
  void handle(const Instance& from, const kernel::protocol::Drained& message);
  void handle(kernel::protocol::Reply& message);
  bool send_material(Instance& to, std::uint64_t generation,
                     const gateway::tls::Material& material);
  void send_samples(Instance& to);
  void put_question(std::uint64_t id, Answered answered);
  void send_commit(Instance& to, std::uint64_t generation, std::string_view memory);
  void watch_for_hang();
  void replace_hung();
  void serving_ended(const std::string& how);
  void next_ended(const std::string& how);
  void finish_prepare(std::expected<void, std::string> result);
  void finish_commit(std::expected<void, std::string> result);

  boost::asio::io_context& io_;
  const std::string user_;
  Hooks hooks_;
  std::unique_ptr<Instance> serving_;
  std::unique_ptr<Instance> next_;  // starts: the first, after a death, or to replace serving_
  std::list<std::unique_ptr<Instance>> retired_;
  boost::asio::steady_timer start_timer_;
  boost::asio::steady_timer prepare_timer_;
  boost::asio::steady_timer drain_timer_;
  boost::asio::steady_timer hang_timer_;
  HangWatch hang_watch_;
  std::uint64_t preparing_ = 0;  // the generation that `prepared_` waits for
  Done prepared_;
  Done committed_;
  std::function<void()> drained_;
  bool replacing_ = false;  // next_ waits for the word of a reload before it is committed
  std::string memory_;
  std::map<std::uint64_t, Question> questions_;
  // Never again one of those that were asked before an exec: their answers may still come.
  std::uint64_t next_question_ =
      static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
  std::uint64_t next_id_ = 1;
  std::uint32_t restarts_ = 0;
  std::uint32_t replacements_ = 0;
  std::uint32_t quick_deaths_ = 0;
  bool draining_ = false;
};

}  // namespace sluice::control
