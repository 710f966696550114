#include "gateway/main/plain_process.h"

#include <chrono>
#include <fcntl.h>
#include <memory>

#include <boost/asio/io_context.hpp>

#include "gateway/access_log.h"
#include "gateway/control/admin_server.h"
#include "gateway/control/metrics_server.h"
#include "gateway/gateway.h"
#include "gateway/kubernetes/watch_samples.h"
#include "gateway/log.h"
#include "gateway/main/admin_commands.h"
#include "gateway/main/clock_watch.h"
#include "gateway/main/command.h"
#include "gateway/main/console_child.h"
#include "gateway/main/drain_deadline.h"
#include "gateway/main/endpoint_orders.h"
#include "gateway/main/gateway_commands.h"
#include "gateway/main/kept_sets.h"
#include "gateway/main/kernel_plan.h"
#include "gateway/main/local_pods.h"
#include "gateway/main/machine_limits.h"
#include "gateway/main/pods_child.h"
#include "gateway/main/policy_apply.h"
#include "gateway/main/policy_reloader.h"
#include "gateway/main/run_commands.h"
#include "gateway/main/run_signals.h"
#include "gateway/main/sandbox.h"
#include "gateway/main/service_manager.h"
#include "gateway/main/tls_source.h"
#include "gateway/main/watchdog.h"
#include "gateway/metrics.h"
#include "kernel/sockets.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;

class PlainProcess {
 public:
  PlainProcess(const RunOptions& options, FirstPolicy first)
      : options_(options),
        workers_(worker_count(first.policy.config().workers)),
        reloader_(io_, options.policy_path, std::move(first), 1,
                  {.apply =
                       [this](const CompiledPolicy& candidate, std::uint64_t generation,
                              const std::function<void(std::expected<void, std::string>)>& done) {
                         done(apply(candidate, generation));
                       },
                   .ended =
                       [this](const ReloadOutcome& outcome) {
                         gateway_->metrics().reload_ended(outcome.ok());
                         watch_pods();
                       },
                   .unchanged = [this] { tls_.refresh(); },
                   .lock_out = {},
                   .names_operator = {}}),
        policy_apply_(io_, reloader_, {}),
        gateway_(gateway::Gateway::create(
            {.workers = workers_, .own_mark = 0, .on_ban = {}, .control = &io_})),
        console_(io_, options.socket_path),
        tls_(io_,
             [this] {
               gateway_->apply_tls(tls_.current());
               watch_pods();
             }),
        pods_(io_, [this](std::string pods) { reloader_.set_pods(std::move(pods)); }),
        metrics_server_(io_, {.metrics = [this] { return gateway_->metrics_text(); },
                              .ready = [this] { return !stopping_; }}),
        orders_(reloader_.current().config().state_dir),
        signals_(io_, {.stopping = [this] { return stopping_; },
                       .stop = [this] { stop(); },
                       .end =
                           [this] {
                             log_warn("control", "told twice; ending at once");
                             io_.stop();
                           },
                       .reload =
                           [this] {
                             reopen_logs();
                             reloader_.reload({});
                           },
                       .reopen_logs = [this] { reopen_logs(); },
                       .child = [this] { console_.child_signal(); }}) {}

  int run();

 private:
  std::expected<void, std::string> apply(const CompiledPolicy& candidate, std::uint64_t generation);
  std::expected<std::vector<gateway::ListenerSocket>, std::string> duplicates(
      const std::vector<kernel::Listener>& listeners,
      const std::vector<kernel::OwnedSocket>& sockets) const;
  void watch_pods();
  void add_admin_commands();
  void add_sources();
  void add_ban_commands();
  void reopen_logs();
  void stop();

  RunOptions options_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  boost::asio::io_context io_{1};
  std::uint32_t workers_;
  std::vector<kernel::OwnedSocket> sockets_;
  PolicyReloader reloader_;
  PolicyApply policy_apply_;
  std::unique_ptr<gateway::Gateway> gateway_;
  ConsoleChild console_;
  TlsSource tls_;
  LocalPods pods_;
  gateway::MetricsServer metrics_server_;
  AdminCommands admin_commands_;
  DrainWaiters drain_waiters_{io_};
  std::unique_ptr<gateway::AdminServer> admin_;
  EndpointOrders orders_;
  RunSignals signals_;
  ClockWatch clock_{io_};
  Watchdog watchdog_{io_};
  bool stopping_ = false;
};

int PlainProcess::run() {
  add_sources();
  add_admin_commands();
  auto admin = gateway::AdminServer::listen(
      io_, options_.socket_path,
      [this](const json::object& request, const AdminCommands::Respond& respond) {
        admin_commands_.handle(request, respond);
      });
  if (!admin) {
    log_error("control", admin.error());
    return kExitFailed;
  }
  admin_ = std::move(*admin);
  if (auto applied = apply(reloader_.current(), reloader_.generation()); !applied) {
    log_error("control", applied.error());
    return kExitFailed;
  }
  for (const auto& order : orders_.all())
    (void)gateway_command(*gateway_, order);
  if (!reloader_.last().ok()) gateway_->metrics().reload_ended(false);
  signals_.wait();
  reloader_.watch();
  watch_pods();
  if (reloader_.last().ok()) keep_as_last_good(reloader_.current());
  log_info("control", "ready", {{"generation", reloader_.generation()}, {"workers", workers_}});
  tell_service_manager("READY=1\nSTATUS=policy generation " +
                       std::to_string(reloader_.generation()));
  io_.run();
  return kExitOk;
}

// Everything that can fail comes before the first change.
std::expected<void, std::string> PlainProcess::apply(const CompiledPolicy& candidate,
                                                     std::uint64_t generation) {
  if (candidate.config().needs_kernel())
    return std::unexpected(
        std::string(
            "this policy needs the kernel (intercept, guard, bans, express or "
            "source_address: client), and sluice was started with one that does not: restart it") +
        (missing_keeper_capabilities().empty() ? "" : " as root"));
  if (worker_count(candidate.config().workers) != workers_)
    log_warn("policy", "`workers` is read at the start only", {{"workers", workers_}});
  auto material = tls_.load(candidate.config());
  if (!material) return std::unexpected(material.error());
  auto console = console_.prepare(candidate.config().admin);
  if (!console) return std::unexpected(console.error());
  const kernel::Plan plan = make_kernel_plan(candidate.config(), generation, workers_);
  auto opened = kernel::open_bind_sockets(plan.listeners, workers_, sockets_);
  if (!opened) return std::unexpected(opened.error().message);
  auto handed = duplicates(plan.listeners, *opened);
  if (!handed) return std::unexpected(handed.error());
  if (auto served = metrics_server_.configure(candidate.config().metrics); !served) {
    for (const auto& socket : *handed)
      kernel::protocol::OwnedFd(socket.fd).reset();
    return std::unexpected(served.error());
  }
  gateway_->apply(candidate.snapshot, std::move(*handed), *material);
  tls_.adopt(candidate.snapshot, std::move(*material));
  gateway_->metrics().set_policy_generation("gateway", generation);
  sockets_ = std::move(*opened);
  console_.commit(std::move(*console));
  return {};
}

std::expected<std::vector<gateway::ListenerSocket>, std::string> PlainProcess::duplicates(
    const std::vector<kernel::Listener>& listeners,
    const std::vector<kernel::OwnedSocket>& sockets) const {
  std::vector<kernel::protocol::OwnedFd> owned;
  std::vector<gateway::ListenerSocket> out;
  for (const auto& socket : sockets) {
    owned.emplace_back(::fcntl(socket.fd->get(), F_DUPFD_CLOEXEC, 0));
    if (!owned.back()) return std::unexpected("out of file descriptors");
    out.push_back({.listener = listeners.at(socket.listener).name,
                   .way = gateway::WayIn::bind,
                   .worker = socket.worker,
                   .fd = owned.back().get()});
  }
  for (auto& fd : owned)
    (void)fd.release();  // the gateway's to close
  return out;
}

void PlainProcess::watch_pods() {
  const policy::Config& config = reloader_.current().config();
  if (!names_pods(config) || !config.kubernetes) {
    pods_.stop();
    return reloader_.set_pods({});
  }
  pods_.follow(*config.kubernetes, tls_.current(), 0);
}

void PlainProcess::add_sources() {
  gateway_->metrics().add_source([this] { return tls_.samples(); });
  gateway_->metrics().add_source([this] { return stale_samples(reloader_.current()); });
  gateway_->metrics().add_source([this] {
    std::vector<gateway::MetricSample> samples;
    if (pods_.running())
      gateway::kubernetes::add_watch_samples("pods", "node", pods_.counts(), samples);
    return samples;
  });
  gateway_->metrics().add_source([this] {
    return std::vector<gateway::MetricSample>{
        {.name = kDriftMetric,
         .help = kDriftHelp,
         .type = gateway::SampleType::gauge,
         .labels = {},
         .value = policy_apply_.differs_from_disk() ? 1.0 : 0.0},
        {.name = kClockJumpsMetric,
         .help = kClockJumpsHelp,
         .type = gateway::SampleType::counter,
         .labels = {},
         .value = static_cast<double>(clock_.jumps())},
        {.name = kConsoleRestartsMetric,
         .help = kConsoleRestartsHelp,
         .type = gateway::SampleType::counter,
         .labels = {},
         .value = static_cast<double>(console_.restarts())}};
  });
}

void PlainProcess::add_admin_commands() {
  using Respond = AdminCommands::Respond;
  add_ban_commands();
  add_run_commands(
      admin_commands_,
      {.reloader = reloader_,
       .policy_apply = policy_apply_,
       .plan_context =
           [this] { return PlanContext{.keeper = nullptr, .workers = workers_, .operators = {}}; },
       .drain_waiters = drain_waiters_,
       .reopen_logs = [this] { reopen_logs(); },
       .stop = [this] { stop(); }});
  admin_commands_.add("status", [this](const json::object&, const Respond& respond) {
    json::object status = status_head("plain", reloader_, started_);
    policy_apply_.add_status(status["policy"].as_object());
    status["console"] = console_.status();
    status["draining"] = stopping_;
    merge_gateway_status(status, gateway_->status_json());
    respond(std::move(status));
  });
  for (const char* name : {"explain", "routes"}) {
    admin_commands_.add(name, [this](const json::object& request, const Respond& respond) {
      respond(gateway_command(*gateway_, request));
    });
  }
  admin_commands_.add("upstream", [this](const json::object& request, const Respond& respond) {
    json::object answer = gateway_command(*gateway_, request);
    const json::value* ok = answer.if_contains("ok");
    if (ok != nullptr && *ok == true) orders_.note(request, reloader_.current().config().state_dir);
    respond(std::move(answer));
  });
  admin_commands_.add("upgrade", [](const json::object&, const Respond& respond) {
    respond(
        admin_error("this policy uses nothing of the kernel (intercept, guard, bans), so there is "
                    "no keeper that could hold the sockets meanwhile; start the new program beside "
                    "this one on another port, or drain and start again"));
  });
}

// What the gateway itself has banned is there without a keeper too.
void PlainProcess::add_ban_commands() {
  using Respond = AdminCommands::Respond;
  for (const char* name : {"ban", "drops"}) {
    admin_commands_.add(name, [](const json::object&, const Respond& respond) {
      respond(
          admin_error("this policy uses nothing of the kernel (intercept, guard, bans), so nothing "
                      "is dropped there"));
    });
  }
  admin_commands_.add("top", [](const json::object&, const Respond& respond) {
    respond(admin_error(
        "this policy uses nothing of the kernel (intercept, guard, bans), which counts "
        "for `top`: start sluice with one that says `guard: { monitor: [service, source] "
        "}`; requests by route are on the page of `metrics` (sluice_requests_total)"));
  });
  admin_commands_.add("bans", [this](const json::object&, const Respond& respond) {
    respond(handle_own_bans(*gateway_));
  });
  admin_commands_.add("unban", [this](const json::object& request, const Respond& respond) {
    respond(handle_own_unban(*gateway_, request));
  });
}

void PlainProcess::reopen_logs() {
  if (gateway_->access_log() == nullptr) return;
  if (auto reopened = gateway_->access_log()->reopen(); !reopened)
    log_error("access log", "kept as it was", {{"error", reopened.error()}});
}

void PlainProcess::stop() {
  if (stopping_) return;
  stopping_ = true;
  const auto deadline = drain_deadline(reloader_.current().config());
  log_info("control", "stopping: open connections may finish", {{"deadline_ms", deadline.count()}});
  tell_service_manager("STOPPING=1");
  sockets_.clear();  // so that new connections are refused and go elsewhere
  gateway_->drain(deadline, [this] {
    log_info("control", "drained");
    drain_waiters_.tell([this] { io_.stop(); });
  });
}

}  // namespace

int run_plain_process(const RunOptions& options, FirstPolicy first) {
  forbid_core_dumps();
  PlainProcess process(options, std::move(first));
  return process.run();
}

}  // namespace sluice::control
