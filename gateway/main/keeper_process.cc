#include "gateway/main/keeper_process.h"

#include <chrono>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "gateway/control/admin_server.h"
#include "gateway/log.h"
#include "gateway/main/admin_commands.h"
#include "gateway/main/ban_bridge.h"
#include "gateway/main/banned_connections.h"
#include "gateway/main/clock_watch.h"
#include "gateway/main/closed_connections.h"
#include "gateway/main/command.h"
#include "gateway/main/console_child.h"
#include "gateway/main/drain_deadline.h"
#include "gateway/main/drops.h"
#include "gateway/main/express_view.h"
#include "gateway/main/gateway_directory.h"
#include "gateway/main/gateway_memory.h"
#include "gateway/main/gateway_offer.h"
#include "gateway/main/gateway_questions.h"
#include "gateway/main/gateway_supervisor.h"
#include "gateway/main/keeper_samples.h"
#include "gateway/main/keeper_start.h"
#include "gateway/main/keeper_succession.h"
#include "gateway/main/kept_sets.h"
#include "gateway/main/kernel_plan.h"
#include "gateway/main/kernel_watch.h"
#include "gateway/main/machine_limits.h"
#include "gateway/main/pods_child.h"
#include "gateway/main/policy_apply.h"
#include "gateway/main/policy_reloader.h"
#include "gateway/main/run_commands.h"
#include "gateway/main/run_signals.h"
#include "gateway/main/sandbox.h"
#include "gateway/main/service_manager.h"
#include "gateway/main/tls_source.h"
#include "gateway/main/top.h"
#include "gateway/main/upgrade.h"
#include "gateway/main/watchdog.h"
#include "kernel/keeper.h"
#include "kernel/trial.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
namespace protocol = kernel::protocol;
using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;
using namespace std::chrono_literals;

class KeeperProcess {
 public:
  KeeperProcess(const RunOptions& options, FirstPolicy first, KeeperStart start,
                std::optional<HandOver> from)
      : options_(options),
        mounted_bpffs_(start.mounted_bpffs),
        workers_(from ? from->workers : worker_count(first.policy.config().workers)),
        keeper_(std::move(start.keeper)),
        reloader_(
            io_, options.policy_path, std::move(first), keeper_->generation() + 1,
            {.apply =
                 [this](const CompiledPolicy& candidate, std::uint64_t generation,
                        GatewaySupervisor::Done done) {
                   apply(candidate, generation, std::move(done));
                 },
             .announce =
                 [this](std::uint64_t generation, const std::vector<policy::PolicyFile>& files) {
                   supervisor_.announce(generation, files);
                 },
             .withdraw = [this](std::uint64_t generation) { supervisor_.withdraw(generation); },
             .ended =
                 [this](const ReloadOutcome& outcome) {
                   supervisor_.tell(protocol::ReloadEnded{.ok = outcome.ok()});
                   watch_pods();
                 },
             .unchanged = [this] { tls_.refresh(); },
             .lock_out =
                 [this](const CompiledPolicy& running, const CompiledPolicy& next) {
                   return lock_out(running, next, plan_context());
                 },
             .names_operator =
                 [this](const std::vector<policy::Prefix>& prefixes) {
                   return names_operator(prefixes, plan_context());
                 },
             .pods_gone =
                 [this](const std::vector<policy::IpAddress>& addresses) {
                   questions_.forget(addresses);
                 }}),
        policy_apply_(io_, reloader_,
                      {.context = [this] { return plan_context(); },
                       .revert_at =
                           [this](std::optional<std::chrono::steady_clock::time_point> when) {
                             return kernel::revert_guard_at(*keeper_, when);
                           }}),
        supervisor_(
            io_, options.user,
            {.current =
                 [this] {
                   return make_offer(*keeper_, reloader_.current(), reloader_.generation(),
                                     workers_, tls_.current());
                 },
             .ready = [this] { gateway_ready(); },
             .died = [this] { gateway_died(); },
             .ban =
                 [this](const protocol::Ban& ban) {
                   // Of those that drain: the table is the successor's.
                   if (succession_.handed_over()) return;
                   bans_.pass_on(*keeper_, ban, std::chrono::steady_clock::now());
                   banned_connections_.end_soon();
                 },
             .samples = [this] { return samples(); },
             .drain_deadline = [this] { return drain_deadline(reloader_.current().config()); },
             .remembered = [this] { return succession_.remembered(); }}),
        memory_(io_, supervisor_, [this] { return reloader_.current().config().state_dir; }),
        upgrade_(io_, std::move(from),
                 {.busy = [this] { return busy(); },
                  .hand_over =
                      [this] {
                        pods_.rest();
                        return hand_over();
                      },
                  .leaving = [this] { console_.pause(); },
                  .stayed = [this] { console_.resume(); }}),
        console_(io_, options.socket_path),
        tls_(io_,
             [this] {
               if (tls_.current()) supervisor_.refresh(reloader_.generation(), *tls_.current());
               watch_pods();
             }),
        pods_(io_, options.user, [this](std::string pods) { reloader_.set_pods(std::move(pods)); }),
        watch_(
            io_, *keeper_, [this] { return supervisor_.alive(); },
            [this] { questions_.follow_names(); }),
        succession_(
            io_, options, std::move(start.predecessor),
            {.keeper = *keeper_, .reloader = reloader_, .supervisor = supervisor_, .watch = watch_},
            {.busy = [this] { return busy(); },
             .hand_over = [this] { return hand_over(); },
             .plan = [this] { return plan_in_force(); },
             .handed_over =
                 [this] {
                   rest();
                   stop_if_told();
                 },
             .given_up = [this] { stop_if_told(); }}),
        banned_connections_(io_, *keeper_),
        questions_(*keeper_, reloader_, supervisor_,
                   [this] {
                     memory_.save();
                     memory_.ask();
                   }),
        drop_streams_(io_, *keeper_),
        top_streams_(io_, *keeper_,
                     [this]() -> const policy::Config& { return reloader_.current().config(); }),
        signals_(io_, {.stopping = [this] { return stopping_ || stop_told_; },
                       .stop = [this] { stop(); },
                       .end =
                           [this] {
                             log_warn("keeper", "told twice; ending at once");
                             end(kExitOk);
                           },
                       .reload =
                           [this] {
                             reopen_logs();
                             reloader_.reload({});
                           },
                       .reopen_logs = [this] { reopen_logs(); },
                       .child =
                           [this] {
                             supervisor_.child_signal();
                             pods_.child_signal();
                             console_.child_signal();
                           }}) {}

  int run();

 private:
  std::expected<void, std::string> listen_for_admins();
  std::expected<void, std::string> take_over();
  void replace_gateway();
  void go_back_to_predecessor(const std::string& problem);  // returns when that is impossible
  std::string busy() const;
  HandOver hand_over() const;
  kernel::Plan plan_in_force() const {
    return make_kernel_plan(reloader_.current().config(), reloader_.generation(), workers_);
  }
  void rest();
  void begin_to_serve();
  void make_room_for_gateway(const policy::Config& config) const;
  void watch_pods() {
    const policy::Config& config = reloader_.current().config();
    pods_.follow(config, tls_.current(), own_mark(config));
    if (!names_pods(config)) reloader_.set_pods({});
  }
  void gateway_ready();
  void gateway_died();
  void apply(const CompiledPolicy& candidate, std::uint64_t generation,
             GatewaySupervisor::Done done);
  void tell_draining();
  void commit(std::uint64_t generation, std::uint32_t workers, const GatewaySupervisor::Done& done);
  std::vector<protocol::KernelSample> samples() const;
  PlanContext plan_context() const {
    return {.keeper = keeper_.get(), .workers = workers_, .operators = operators_.connected()};
  }
  void add_admin_commands();
  bool follow_drops(const json::object& request,
                    const std::shared_ptr<gateway::AdminStream>& stream);
  void status(const AdminCommands::Respond& respond);
  void reopen_logs() {
    supervisor_.ask("reopen-logs", [](const auto&) {});
  }
  void stop();
  void stop_if_told();
  void end(int code) {
    exit_code_ = code;
    io_.stop();
  }

  RunOptions options_;
  bool mounted_bpffs_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  boost::asio::io_context io_{1};
  std::uint32_t workers_;
  std::unique_ptr<kernel::Keeper> keeper_;
  PolicyReloader reloader_;
  PolicyApply policy_apply_;
  GatewaySupervisor supervisor_;
  GatewayMemory memory_;
  Upgrade upgrade_;
  ConsoleChild console_;
  TlsSource tls_;
  PodsChild pods_;
  BanBridge bans_;
  KernelWatch watch_;
  KeeperSuccession succession_;
  ClockWatch clock_{io_};
  Watchdog watchdog_{io_};
  BannedConnections banned_connections_;
  ClosedConnections closed_connections_{io_, *keeper_};
  GatewayQuestions questions_;
  KnownOperators operators_;
  DropStreams drop_streams_;
  TopStreams top_streams_;
  AdminCommands admin_commands_;
  DrainWaiters drain_waiters_{io_};
  std::unique_ptr<gateway::AdminServer> admin_;
  RunSignals signals_;
  bool kernel_prepared_ = false;  // a plan waits in the inactive slots
  bool in_force_ = false;         // the first plan has been committed
  bool stopping_ = false;
  bool stop_told_ = false;  // while another keeper takes over
  int exit_code_ = kExitOk;
};

int KeeperProcess::run() {
  add_admin_commands();
  if (auto listens = listen_for_admins(); !listens) {
    log_error("keeper", listens.error());
    return kExitFailed;
  }
  if (auto dropped = drop_spare_capabilities(); !dropped)
    log_warn("keeper", "keeps capabilities that it does not need", {{"reason", dropped.error()}});
  const auto& config = reloader_.current().config();
  make_room_for_gateway(config);
  if (upgrade_.from()) tls_.inherit(upgrade_.from()->ticket_keys);
  Predecessor* predecessor = succession_.predecessor();
  if (predecessor != nullptr) tls_.inherit(predecessor->left().ticket_keys);
  auto material = tls_.load(config);
  if (!material) {
    log_error("keeper", material.error());
    if (upgrade_.from()) go_back(*upgrade_.from(), material.error());
    return kExitFailed;
  }
  tls_.adopt(reloader_.current().snapshot, std::move(*material));
  auto console = console_.prepare(config.admin);
  if (!console) {
    // The predecessor's own has the address for a moment yet.
    if (!upgrade_.from() && predecessor == nullptr) {
      log_error("keeper", console.error());
      return kExitFailed;
    }
    console.emplace(ConsoleChild::Prepared{.config = config.admin, .listening = {}});
  }
  memory_.load();
  if (upgrade_.from()) {
    if (auto taken = take_over(); !taken) {
      go_back(*upgrade_.from(), taken.error());
      return kExitFailed;
    }
  } else {
    if (auto prepared = keeper_->prepare(plan_in_force()); !prepared) {
      log_error("keeper", prepared.error().message);
      return kExitFailed;
    }
    kernel_prepared_ = true;
    supervisor_.start();
  }
  console_.commit(std::move(*console));
  signals_.wait();
  unblock_signals();
  io_.run();
  return exit_code_;
}

std::expected<void, std::string> KeeperProcess::listen_for_admins() {
  const auto& from = upgrade_.from();
  auto admin = gateway::AdminServer::listen(
      io_, options_.socket_path,
      [this](const json::object& request, const AdminCommands::Respond& respond) {
        operators_.note(request);
        admin_commands_.handle(request, respond);
      },
      [this](const json::object& request, const std::shared_ptr<gateway::AdminStream>& stream) {
        return follow_drops(request, stream) || top_streams_.add(request, stream);
      },
      from ? ::fcntl(from->admin, F_DUPFD_CLOEXEC, 0) : -1);
  if (!admin) return std::unexpected(admin.error());
  admin_ = std::move(*admin);
  return {};
}

// --- upgrade -------------------------------------------------------------------------------------

// What the program before had in force is put in force by this one, with the same sockets and the
// same gateway; then its own gateway takes the other's place.
std::expected<void, std::string> KeeperProcess::take_over() {
  const HandOver& from = *upgrade_.from();
  if (auto prepared = keeper_->prepare(plan_in_force()); !prepared)
    return std::unexpected(prepared.error().message);
  if (auto committed = keeper_->commit(); !committed)
    return std::unexpected(committed.error().message);
  for (const auto& socket : from.keeper.sockets)
    protocol::OwnedFd(socket.fd).reset();  // the keeper has duplicates
  protocol::OwnedFd(from.admin).reset();
  in_force_ = true;
  const bool serves = supervisor_.adopt(from.gateways);
  if (!serves) supervisor_.start();
  begin_to_serve();
  succession_.serve();
  if (upgrade_.under_way() && serves) replace_gateway();
  return {};
}

void KeeperProcess::replace_gateway() {
  const std::uint64_t generation = reloader_.generation();
  supervisor_.prepare(
      make_offer(*keeper_, reloader_.current(), generation, workers_, tls_.current()), true,
      [this, generation](const std::expected<void, std::string>& prepared) {
        if (prepared)
          return supervisor_.commit(generation, [this](const auto& served) {
            if (!served) go_back_to_predecessor(served.error());
          });
        supervisor_.abandon(generation);
        go_back_to_predecessor(prepared.error());
      });
}

void KeeperProcess::go_back_to_predecessor(const std::string& problem) {
  if (stopping_) return;  // that one would begin to serve again
  upgrade_.go_back(problem);
  reloader_.watch();
}

std::string KeeperProcess::busy() const {
  if (stopping_ || stop_told_) return "sluice is stopping";
  if (std::string why = succession_.why_unchanged(); !why.empty()) return why;
  if (policy_apply_.on_trial())
    return "a policy waits for `sluice confirm`; confirm it, or `sluice rollback` first";
  if (!in_force_ || !supervisor_.idle())
    return "a gateway is starting or a policy is being put in force; try again";
  return "";
}

HandOver KeeperProcess::hand_over() const {
  return {.from_version = SLUICE_VERSION,
          .workers = workers_,
          .files = reloader_.current().files,
          .keeper = keeper_->hand_over(),
          .gateways = supervisor_.leave(),
          .ticket_keys = tls_.leave(),
          .admin = admin_->descriptor()};
}

// --- the gateway ---------------------------------------------------------------------------------

// For the file of usage. Calls are served without, and the gateway says that it is not kept.
void KeeperProcess::make_room_for_gateway(const policy::Config& config) const {
  if (!config.ai) return;
  if (auto made = make_gateway_directory(config.state_dir, options_.user); !made)
    log_warn("keeper", "the gateway has no directory to write in", {{"reason", made.error()}});
}

// Interception begins when there is somebody to serve what it catches.
void KeeperProcess::gateway_ready() {
  if (!in_force_) {
    if (auto committed = succession_.commit_first(); !committed) {
      log_error("keeper", committed.error());
      return end(kExitFailed);
    }
    kernel_prepared_ = false;
    in_force_ = true;
    begin_to_serve();
    succession_.serve();
    log_info("keeper", "ready", {{"generation", reloader_.generation()}, {"workers", workers_}});
  }
  supervisor_.tell(protocol::InForce{.generation = reloader_.generation()});
  questions_.repeat_orders();
  if (!reloader_.last().ok()) supervisor_.tell(protocol::ReloadEnded{.ok = false});
  if (!upgrade_.under_way()) return;
  upgrade_.done();
  reloader_.watch();
}

// Another keeper follows the node from now on.
void KeeperProcess::rest() {
  pods_.stop();
  memory_.stop();
  console_.pause();
}

void KeeperProcess::begin_to_serve() {
  watch_.start();
  memory_.follow();
  watch_pods();
  // One change at a time: what is on disk now waits until the next gateway serves.
  if (!upgrade_.under_way()) reloader_.watch();
  if (reloader_.last().ok()) keep_as_last_good(reloader_.current());
  tell_service_manager("READY=1\nSTATUS=policy generation " +
                       std::to_string(reloader_.generation()));
}

void KeeperProcess::gateway_died() {
  if (!in_force_) return;
  watch_.look(false);
}

// --- reload --------------------------------------------------------------------------------------

// The kernel's inactive slots first (it can fail for many reasons), then the gateway, then both
// commit. Another number of workers or another mark needs another gateway process, which takes the
// place of the one that serves.
void KeeperProcess::apply(const CompiledPolicy& candidate, std::uint64_t generation,
                          GatewaySupervisor::Done done) {
  if (std::string why = succession_.why_unchanged(); !why.empty())
    return done(std::unexpected(std::move(why)));
  if (stopping_ || !supervisor_.ready())
    return done(std::unexpected("the gateway is not ready; try again"));
  auto material = tls_.load(candidate.config());
  if (!material) return done(std::unexpected(material.error()));
  auto console = console_.prepare(candidate.config().admin);
  if (!console) return done(std::unexpected(console.error()));
  const auto admin = std::make_shared<ConsoleChild::Prepared>(std::move(*console));
  make_room_for_gateway(candidate.config());
  const std::uint32_t workers = worker_count(candidate.config().workers);
  kernel::Plan plan = make_kernel_plan(candidate.config(), generation, workers);
  plan.guard.revert_at = policy_apply_.next_deadline();
  if (auto prepared = keeper_->prepare(plan); !prepared) {
    supervisor_.abandon(generation);
    return done(std::unexpected(prepared.error().message));
  }
  kernel_prepared_ = true;
  supervisor_.prepare(
      make_offer(*keeper_, candidate, generation, workers, *material), false,
      [this, generation, workers, done = std::move(done), policy = candidate.snapshot,
       material = *material, admin](std::expected<void, std::string> prepared) {
        // It would catch again what flows straight by now.
        if (stopping_) prepared = std::unexpected("sluice is stopping");
        if (prepared) {
          return commit(generation, workers,
                        [=, this](const std::expected<void, std::string>& committed) {
                          if (committed) {
                            tls_.adopt(policy, material);
                            console_.commit(std::move(*admin));
                          }
                          done(committed);
                        });
        }
        keeper_->abandon();
        kernel_prepared_ = false;
        supervisor_.abandon(generation);
        done(std::move(prepared));
      });
}

void KeeperProcess::commit(std::uint64_t generation, std::uint32_t workers,
                           const GatewaySupervisor::Done& done) {
  kernel_prepared_ = false;
  // A trial's time runs from now on, not from when the gateway began to prepare.
  if (const auto deadline = policy_apply_.next_deadline())
    kernel::revert_guard_at(*keeper_, deadline);
  if (auto committed = keeper_->commit(); !committed) {
    keeper_->abandon();
    supervisor_.abandon(generation);
    return done(std::unexpected(committed.error().message));
  }
  workers_ = workers;
  watch_.say_warnings();
  // Should the gateway end now, the next one starts with what is in force.
  supervisor_.commit(generation, [this, generation, done](const auto&) {
    supervisor_.tell(protocol::InForce{.generation = generation});
    tell_draining();
    done({});
  });
}

// The gateway that has them: one that takes another's place has none.
void KeeperProcess::tell_draining() {
  const auto cookies = keeper_->take_draining();
  const auto deadline = static_cast<std::uint32_t>(
      drain_deadline(reloader_.current().config()).count());
  for (std::size_t at = 0; at < cookies.size(); at += protocol::kMaxCookies) {
    const auto end = std::min(cookies.size(), at + protocol::kMaxCookies);
    supervisor_.tell(protocol::DrainConnections{
        .deadline_ms = deadline,
        .cookies = {cookies.begin() + static_cast<std::ptrdiff_t>(at),
                    cookies.begin() + static_cast<std::ptrdiff_t>(end)}});
  }
}

// --- the rest ------------------------------------------------------------------------------------

std::vector<protocol::KernelSample> KeeperProcess::samples() const {
  KeeperSamples out;
  out.add(keeper_->samples());
  out.add(tls_.samples());
  out.add(pods_.samples());
  out.add(stale_samples(reloader_.current()));
  out.gauge(kDriftMetric, policy_apply_.differs_from_disk() ? 1.0 : 0.0, kDriftHelp);
  out.counter(kClockJumpsMetric, static_cast<double>(clock_.jumps()), kClockJumpsHelp);
  out.gauge("sluice_keeper_mounted_bpffs", mounted_bpffs_ ? 1.0 : 0.0,
            "1 when no BPF file system was mounted where pins are kept, and this keeper mounted "
            "one.");
  out.counter(kConsoleRestartsMetric, console_.restarts(), kConsoleRestartsHelp);
  out.counter("sluice_gateway_restarts_total", supervisor_.restarts(),
              "Gateway processes that ended and were replaced.");
  out.counter("sluice_gateway_replacements_total", supervisor_.replacements(),
              "Gateway processes that another took over from: upgrades, and reloads that change "
              "`workers`.");
  out.counter("sluice_keeper_upgrades_total", upgrade_.count(),
              "Programs that took over from another by `sluice upgrade`.");
  out.counter("sluice_keeper_refused_bans_total", static_cast<double>(bans_.refused()),
              "Bans that the gateway asked for and did not get.");
  return out.take();
}

void KeeperProcess::add_admin_commands() {
  using Respond = AdminCommands::Respond;
  add_run_commands(admin_commands_, {.reloader = reloader_,
                                     .policy_apply = policy_apply_,
                                     .plan_context = [this] { return plan_context(); },
                                     .drain_waiters = drain_waiters_,
                                     .reopen_logs = [this] { reopen_logs(); },
                                     .stop = [this] { stop(); }});
  questions_.add_commands(admin_commands_);
  admin_commands_.add("status",
                      [this](const json::object&, const Respond& respond) { status(respond); });
  admin_commands_.add("ban", [this](const json::object& request, const Respond& respond) {
    const std::string cut = operator_cut_by_ban(request, reloader_.current(), plan_context());
    if (!cut.empty()) return respond(admin_error(cut));
    respond(handle_ban(*keeper_, request));
    banned_connections_.end_soon();
  });
  admin_commands_.add("drops", [this](const json::object&, const Respond& respond) {
    respond(handle_drops(*keeper_));
  });
  admin_commands_.add("upgrade", [this](const json::object& request, const Respond& respond) {
    upgrade_.handle(request, respond);
  });
}

bool KeeperProcess::follow_drops(const json::object& request,
                                 const std::shared_ptr<gateway::AdminStream>& stream) {
  const json::value* command = request.if_contains("command");
  const json::value* follow = request.if_contains("follow");
  if (command == nullptr || *command != "drops" || follow == nullptr || *follow != true)
    return false;
  drop_streams_.add(stream);
  return true;
}

void KeeperProcess::status(const AdminCommands::Respond& respond) {
  json::object head = status_head("keeper", reloader_, started_);
  policy_apply_.add_status(head["policy"].as_object());
  head["kernel_generation"] = keeper_->generation();
  head["handed_over"] = succession_.handed_over();
  head["ready"] = in_force_ && supervisor_.alive() && !succession_.handed_over() && !stopping_;
  head["draining"] = stopping_;
  for (const auto& warning : keeper_->warnings())
    head["warnings"].as_array().push_back(json::string(warning));
  json::array problems;
  for (const auto& problem : keeper_->problems())
    problems.push_back(json::string(problem));
  head["problems"] = std::move(problems);
  head["gateway"] = supervisor_.status();
  head["gateway"].as_object()["memory"] = memory_.status();
  head["upgrade"] = upgrade_.status();
  add_express_status(*keeper_, head);
  head["console"] = console_.status();
  questions_.status(std::move(head), respond);
}

// Called from within the succession: once that is through.
void KeeperProcess::stop_if_told() {
  if (stop_told_) boost::asio::post(io_, [this] { stop(); });
}

// New connections flow straight from here on, or are refused; those that are open are finished.
void KeeperProcess::stop() {
  if (stopping_) return;
  // The other one's sockets are these, and what is in the kernel is about to be its own: nobody
  // would serve if they were taken from it now.
  if (succession_.handing_over()) {
    if (!std::exchange(stop_told_, true))
      log_info("keeper", "stopping once the other sluice serves, or has ended");
    return;
  }
  stopping_ = true;
  // What a predecessor still serves with is not this one's to take away.
  const Predecessor* before = succession_.predecessor();
  const bool served = !succession_.handed_over() && (before == nullptr || before->has_ended());
  watch_.stop();
  pods_.stop();
  memory_.stop();
  if (served) memory_.save();
  const auto deadline = drain_deadline(reloader_.current().config());
  log_info("keeper",
           served ? "stopping: interception ends, open connections may finish"
                  : "stopping: open connections may finish",
           {{"deadline_ms", deadline.count()}});
  tell_service_manager("STOPPING=1");
  if (served) {
    keeper_->stop_serving();
    closed_connections_.keep_ending();
  }
  supervisor_.drain(deadline, [this] {
    log_info("keeper", "drained");
    drain_waiters_.tell([this] { end(kExitOk); });
  });
}

}  // namespace

int run_keeper_process(const RunOptions& options, FirstPolicy first, std::optional<HandOver> from) {
  forbid_core_dumps();
  if (const std::string missing = missing_keeper_capabilities(); !missing.empty()) {
    log_error("keeper",
              "this policy needs the kernel (intercept, guard or bans): run as root, or with the "
              "capabilities",
              {{"missing", missing}});
    return kExitFailed;
  }
  auto start = open_keeper(options, from);
  if (!start) {
    if (from) go_back(*from, start.error());
    log_error("keeper", start.error());
    return kExitFailed;
  }
  KeeperProcess process(options, std::move(first), std::move(*start), std::move(from));
  return process.run();
}

}  // namespace sluice::control
