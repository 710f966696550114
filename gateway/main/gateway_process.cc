// The gateway child: takes policy and sockets from the keeper, moves bytes, holds no capability but
// CAP_NET_RAW.
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/access_log.h"
#include "gateway/control/last_good.h"
#include "gateway/control/metrics_server.h"
#include "gateway/control/policy_source.h"
#include "gateway/gateway.h"
#include "gateway/log.h"
#include "gateway/log_format.h"
#include "gateway/main/channel.h"
#include "gateway/main/command.h"
#include "gateway/main/compiled_policy.h"
#include "gateway/main/frequent_yield.h"
#include "gateway/main/gateway_commands.h"
#include "gateway/main/kernel_plan.h"
#include "gateway/main/sandbox.h"
#include "gateway/main/sealed_memory.h"
#include "gateway/main/seccomp.h"
#include "gateway/metrics.h"

namespace sluice::control {
namespace {

namespace protocol = kernel::protocol;
using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;
using namespace std::chrono_literals;

// The keeper gives up leases after 3 s without a word.
constexpr auto kHeartbeat = 1s;
constexpr int kMetricsTries = 50;  // half-hearted ones: 20 ms apart

std::expected<void, std::string> write_memory(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = ::write(fd, bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return std::unexpected(std::strerror(errno));
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  return {};
}

std::expected<std::vector<policy::PolicyFile>, std::string> read_bundle(int fd) {
  const auto bytes = read_memory(fd);
  if (!bytes) return std::unexpected("policy: " + bytes.error());
  auto files = gateway::unbundle_policy(bytes->view());
  if (!files) return std::unexpected("policy: not a bundle of files");
  return std::move(*files);
}

// A generation that the keeper has sent and not yet put in force.
struct Pending {
  std::uint64_t generation = 0;
  std::expected<CompiledPolicy, std::string> policy = std::unexpected("no policy");
  gateway::tls::MaterialPtr material;
  std::vector<gateway::ListenerSocket> sockets;
  std::vector<protocol::OwnedFd> owned;  // of `sockets`, until they are handed over
};

class GatewayProcess {
 public:
  explicit GatewayProcess(protocol::OwnedFd channel)
      : heartbeat_(io_),
        metrics_timer_(io_),
        metrics_server_(io_,
                        {.metrics = [this] { return gateway_ ? gateway_->metrics_text() : ""; },
                         .ready = [this] { return ready_ && !draining_; }}) {
    channel_ = Channel::open(
        io_, std::move(channel),
        {.message = [this](protocol::Received received) { handle(std::move(received)); },
         .closed = [this](const std::string& reason) { keeper_gone(reason); }});
  }

  int run() {
    io_.run();
    return exit_code_;
  }

 private:
  void handle(protocol::Received received) {
    if (!received.complete()) return out_of_descriptors(received.message);
    std::visit([&](auto& message) { on(message, received.descriptors); }, received.message);
  }

  template <typename Other>
  void on(const Other&, const std::vector<protocol::OwnedFd>&) {
    fail("the keeper sent what only a gateway may send");
  }
  void on(const protocol::Hello& message, std::vector<protocol::OwnedFd>&);
  void on(const protocol::Policy& message, std::vector<protocol::OwnedFd>& fds);
  void on(const protocol::Material& message, std::vector<protocol::OwnedFd>& fds);
  void on(const protocol::Memory& message, std::vector<protocol::OwnedFd>& fds);
  void on(const protocol::Sockets& message, std::vector<protocol::OwnedFd>& fds);
  void on(const protocol::Commit& message, std::vector<protocol::OwnedFd>&);
  void on(const protocol::Abandon& message, std::vector<protocol::OwnedFd>&) {
    if (pending_ && pending_->generation == message.generation) pending_.reset();
  }
  void on(const protocol::Drain& message, std::vector<protocol::OwnedFd>&);
  void on(const protocol::DrainConnections& message, std::vector<protocol::OwnedFd>&) {
    if (gateway_)
      gateway_->drain_connections(message.cookies, std::chrono::milliseconds(message.deadline_ms));
  }
  void on(const protocol::Request& message, std::vector<protocol::OwnedFd>&);
  void on(protocol::KernelSamples& message, std::vector<protocol::OwnedFd>&);
  void on(const protocol::ReloadEnded& message, std::vector<protocol::OwnedFd>&) {
    if (gateway_) gateway_->metrics().reload_ended(message.ok);
  }
  void on(const protocol::InForce& message, std::vector<protocol::OwnedFd>&) {
    if (gateway_) gateway_->metrics().set_policy_generation("kernel", message.generation);
  }

  void out_of_descriptors(const protocol::Message& message);
  void request_ban(const gateway::BanRequest& request) {
    channel_->send(protocol::Ban{.source = to_kernel(request.source),
                                 .seconds = static_cast<std::uint32_t>(request.duration.count()),
                                 .reason = request.reason.substr(0, 256)});
  }
  void beat();
  void serve_metrics();
  void fail(const std::string& why) {
    log_error("gateway", why);
    exit_code_ = kExitFailed;
    io_.stop();
  }
  // What the keeper held is gone with it: interception closes or bypasses as its rules say. A
  // gateway that went on would be one whose rules nobody keeps; the next keeper brings its own.
  [[noreturn]] void keeper_gone(const std::string& reason) {
    gateway::log_line(draining_ ? gateway::LogLevel::info : gateway::LogLevel::warn, "gateway",
                      "the keeper is gone; ending", {{"reason", reason}});
    ::_exit(draining_ ? kExitOk : kExitFailed);
  }

  boost::asio::io_context io_{1};
  boost::asio::steady_timer heartbeat_;
  boost::asio::steady_timer metrics_timer_;
  std::unique_ptr<gateway::Gateway> gateway_;
  gateway::MetricsServer metrics_server_;
  std::shared_ptr<Channel> channel_;
  std::optional<Pending> pending_;
  std::vector<gateway::MetricSample> kernel_samples_;
  std::vector<gateway::MetricSample> incoming_samples_;
  std::optional<policy::MetricsConfig> metrics_;
  int metrics_tries_ = 0;
  bool ready_ = false;
  bool draining_ = false;
  int exit_code_ = kExitOk;
};

void GatewayProcess::on(const protocol::Hello& message, std::vector<protocol::OwnedFd>&) {
  if (gateway_) return fail("the keeper said hello twice");
  gateway_ = gateway::Gateway::create(
      {.workers = message.workers,
       .own_mark = message.own_mark,
       .on_ban = [this](const gateway::BanRequest& request) { request_ban(request); },
       .control = &io_});
  gateway_->metrics().add_source([this] { return kernel_samples_; });
  gateway_->metrics().add_source([] {
    return std::vector<gateway::MetricSample>{
        {.name = "sluice_gateway_refused_system_calls_total",
         .help = "System calls that seccomp refused to the gateway process; the log names them.",
         .type = gateway::SampleType::counter,
         .labels = {},
         .value = static_cast<double>(refused_system_calls())}};
  });
  beat();
}

// What serves goes on: a policy is refused, newer certificates are not used.
void GatewayProcess::out_of_descriptors(const protocol::Message& message) {
  if (std::holds_alternative<protocol::Memory>(message)) return;  // asked for again in a second
  const std::string why = "the gateway is out of descriptors";
  log_error("gateway", "a policy or its files cannot be used", {{"reason", why}});
  if (const auto* policy = std::get_if<protocol::Policy>(&message)) {
    pending_.emplace();
    pending_->generation = policy->generation;
  }
  if (pending_) pending_->policy = std::unexpected(why);
  std::vector<protocol::OwnedFd> none;
  if (const auto* sockets = std::get_if<protocol::Sockets>(&message)) on(*sockets, none);
}

void GatewayProcess::on(const protocol::Policy& message, std::vector<protocol::OwnedFd>& fds) {
  const FrequentYield yield;
  pending_.emplace();
  pending_->generation = message.generation;
  auto files = read_bundle(fds.front().get());
  if (!files) {
    pending_->policy = std::unexpected(files.error());
    return;
  }
  auto compiled = compile_policy(std::move(*files));
  if (compiled) {
    pending_->policy = std::move(*compiled);
  } else {
    pending_->policy = std::unexpected(to_text(compiled.error()));
  }
}

void GatewayProcess::on(const protocol::Material& message, std::vector<protocol::OwnedFd>& fds) {
  const auto bytes = read_memory(fds.front().get());
  auto material = bytes ? gateway::tls::deserialize(bytes->view())
                        : std::unexpected("TLS material: " + bytes.error());
  if (!material) return fail(material.error());
  if (pending_ && pending_->generation == message.generation) {
    pending_->material = std::move(*material);
  } else if (ready_) {
    gateway_->apply_tls(std::move(*material));
  }
}

void GatewayProcess::on(const protocol::Memory& message, std::vector<protocol::OwnedFd>& fds) {
  if (!gateway_) return;
  if (message.id != 0) {
    if (auto written = write_memory(fds.front().get(), gateway_->remembered(message.limits));
        !written)
      log_warn("gateway", "cannot hand over what it remembers", {{"reason", written.error()}});
    channel_->send(protocol::Reply{.id = message.id, .last = true, .text = {}});
    return;
  }
  if (ready_) return;
  const auto bytes = read_memory(fds.front().get());
  auto taken = bytes ? gateway_->remember(bytes->view()) : std::unexpected(bytes.error());
  if (!taken)
    log_warn("gateway", "begins with fresh limits and forgets who was banned how often",
             {{"reason", "what the gateway before remembered is " + taken.error()}});
}

void GatewayProcess::on(const protocol::Sockets& message, std::vector<protocol::OwnedFd>& fds) {
  if (!pending_) return;
  for (std::size_t i = 0; i < fds.size(); ++i) {
    const auto& entry = message.entries[i];
    pending_->sockets.push_back({.listener = entry.listener,
                                 .way = static_cast<gateway::WayIn>(entry.way),
                                 .worker = entry.worker,
                                 .fd = fds[i].get()});
    pending_->owned.push_back(std::move(fds[i]));
  }
  if (!message.last) return;
  protocol::Prepared prepared{
      .generation = pending_->generation, .ok = pending_->policy.has_value(), .message = {}};
  if (!prepared.ok) prepared.message = pending_->policy.error().substr(0, protocol::kMaxText);
  channel_->send(prepared);
  if (!prepared.ok) pending_.reset();
}

void GatewayProcess::on(const protocol::Commit& message, std::vector<protocol::OwnedFd>&) {
  if (!gateway_ || !pending_ || pending_->generation != message.generation) return;
  const FrequentYield yield;
  Pending taken = std::move(*pending_);
  pending_.reset();
  metrics_ = taken.policy->config().metrics;
  metrics_tries_ = 0;
  serve_metrics();
  for (auto& fd : taken.owned)
    (void)fd.release();  // the gateway closes them
  gateway_->apply(taken.policy->snapshot, std::move(taken.sockets), std::move(taken.material));
  gateway_->metrics().set_policy_generation("gateway", message.generation);
  channel_->send(protocol::Committed{.generation = message.generation});
  if (ready_) return;
  ready_ = true;
  channel_->send(protocol::Ready{.generation = message.generation});
}

// While the gateway that this one replaces has the address, again and again: it gives it up as soon
// as this one is ready.
void GatewayProcess::serve_metrics() {
  if (draining_) return;
  const auto served = metrics_server_.configure(metrics_);
  if (served) return;
  if (++metrics_tries_ == kMetricsTries)
    log_error("metrics", "the metrics page is not served; trying on", {{"reason", served.error()}});
  metrics_timer_.expires_after(metrics_tries_ < kMetricsTries ? 20ms : 1000ms);
  metrics_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) serve_metrics();
  });
}

void GatewayProcess::on(const protocol::Drain& message, std::vector<protocol::OwnedFd>&) {
  if (!gateway_ || draining_) return;
  draining_ = true;
  // The next gateway wants its address.
  if (message.replaced) (void)metrics_server_.configure(std::nullopt);
  gateway_->drain(std::chrono::milliseconds(message.deadline_ms), [this] {
    channel_->send(protocol::Drained{});
    // The keeper ends us; should it not, its end of the channel closing does.
  });
}

void GatewayProcess::on(const protocol::Request& message, std::vector<protocol::OwnedFd>&) {
  std::string text;
  if (message.command == "status" && gateway_) text = gateway_->status_json();
  if (message.command.starts_with('{') && gateway_) {
    boost::system::error_code error;
    const boost::json::value request = boost::json::parse(message.command, error);
    if (!error && request.is_object())
      text = boost::json::serialize(gateway_command(*gateway_, request.as_object()));
  }
  if (message.command == "reopen-logs" && gateway_ && gateway_->access_log() != nullptr) {
    if (const auto reopened = gateway_->access_log()->reopen(); !reopened)
      log_error("access log", "kept as it was", {{"error", reopened.error()}});
  }
  for (const auto& piece : protocol::in_pieces(message.id, text))
    channel_->send(piece);
}

void GatewayProcess::on(protocol::KernelSamples& message, std::vector<protocol::OwnedFd>&) {
  if (message.first) incoming_samples_.clear();
  for (auto& sample : message.samples)
    incoming_samples_.push_back(
        {.name = std::move(sample.name),
         .help = std::move(sample.help),
         .type = sample.counter ? gateway::SampleType::counter : gateway::SampleType::gauge,
         .labels = std::move(sample.labels),
         .value = sample.value});
  if (message.last) kernel_samples_ = std::exchange(incoming_samples_, {});
}

void GatewayProcess::beat() {
  channel_->send(protocol::WantKernelSamples{});
  heartbeat_.expires_after(kHeartbeat);
  heartbeat_.async_wait([this](const boost::system::error_code& error) {
    if (!error) beat();
  });
}

}  // namespace

int run_gateway_process(int channel, const std::string& user) {
  // Signals of the terminal and the service manager reach the whole group; the keeper tells us what
  // to do about them.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2})
    ::signal(signal, SIG_IGN);
  ::prctl(PR_SET_NAME, "sluice-gateway", 0, 0, 0);
  if (const char* format = std::getenv("SLUICE_LOG_FORMAT");
      format != nullptr && std::string_view(format) == "json")
    gateway::set_log_format(gateway::LogFormat::json);
  if (auto sandbox = enter_gateway_sandbox(user); !sandbox) {
    log_error("gateway", "cannot give up privileges", {{"reason", sandbox.error()}});
    return kExitFailed;
  }
  GatewayProcess process{protocol::OwnedFd(channel)};
  return process.run();
}

}  // namespace sluice::control
