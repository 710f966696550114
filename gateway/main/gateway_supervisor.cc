#include "gateway/main/gateway_supervisor.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/control/last_good.h"
#include "gateway/log.h"

namespace sluice::control {
namespace {

namespace protocol = kernel::protocol;
using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;
using namespace std::chrono_literals;

constexpr auto kPrepareLimit = 30s;
constexpr auto kAnswerLimit = 2s;
constexpr auto kHeartbeatLimit = 3s;
constexpr auto kQuickDeath =
    5s;  // a gateway that lived less has a problem that the next one will have too
constexpr auto kLongestPause = 5s;
constexpr std::size_t kMaxAnswer = 16UL << 20;

std::expected<protocol::OwnedFd, std::string> sealed_memory(std::string_view bytes) {
  protocol::OwnedFd fd(::memfd_create("sluice-policy", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return std::unexpected(std::string("memfd_create: ") + std::strerror(errno));
  while (!bytes.empty()) {
    const ssize_t size = ::write(fd.get(), bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return std::unexpected(std::string("memfd: ") + std::strerror(errno));
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  return fd;
}

}  // namespace

GatewaySupervisor::GatewaySupervisor(boost::asio::io_context& io, protocol::Hello hello,
                                     Hooks hooks)
    : io_(io),
      hello_(hello),
      hooks_(std::move(hooks)),
      spawn_timer_(io),
      prepare_timer_(io),
      drain_timer_(io) {}

GatewaySupervisor::~GatewaySupervisor() = default;

void GatewaySupervisor::start() {
  spawn();
}

// --- life and death ------------------------------------------------------------------------------

void GatewaySupervisor::spawn() {
  started_ = Clock::now();
  auto child = GatewayChild::spawn(
      io_, [this](protocol::Received received) { this->received(std::move(received)); });
  if (!child) {
    log_error("keeper", child.error());
    ++quick_deaths_;
    return schedule_spawn();
  }
  child_ = std::move(*child);
  log_info("keeper", "gateway started", {{"pid", child_->pid()}});
  child_->send(hello_);
  const GatewayOffer current = hooks_.current();
  first_generation_ = current.generation;
  offer(current);
}

void GatewaySupervisor::schedule_spawn() {
  // The first next one comes at once, then 100 ms, 200 ms, … 5 s.
  const auto pause = quick_deaths_ <= 1
                         ? 0ms
                         : std::min<std::chrono::milliseconds>(
                               100ms * (1 << std::min(quick_deaths_ - 2, 10U)), kLongestPause);
  spawn_timer_.expires_after(pause);
  spawn_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) spawn();
  });
}

void GatewaySupervisor::child_signal() {
  if (!child_) return;
  if (const std::string how = child_->reap(); !how.empty()) child_ended(how);
}

void GatewaySupervisor::child_ended(const std::string& how) {
  const pid_t pid = child_->pid();
  child_.reset();
  ready_ = false;
  if (draining_) {
    if (drained_) std::exchange(drained_, {})();
    return;
  }
  log_error("keeper", "the gateway ended; the next one takes over its sockets",
            {{"pid", pid}, {"how", how}});
  ++restarts_;
  quick_deaths_ = Clock::now() - started_ < kQuickDeath ? quick_deaths_ + 1 : 1;
  finish_prepare(
      std::unexpected("the gateway process ended (" + how + ") while it prepared the policy"));
  hooks_.died();
  if (committed_) std::exchange(committed_, {})();
  for (auto& [id, question] : std::exchange(questions_, {}))
    question.answered(std::unexpected("the gateway ended"));
  schedule_spawn();
}

bool GatewaySupervisor::alive() const {
  return ready_ && Clock::now() - heard_ < kHeartbeatLimit;
}

boost::json::object GatewaySupervisor::status() const {
  boost::json::object out{
      {"pid", nullptr}, {"ready", ready_}, {"alive", alive()}, {"restarts", restarts_}};
  if (child_) {
    out["pid"] = child_->pid();
    out["uptime_seconds"] =
        std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_).count();
  }
  return out;
}

// --- policy --------------------------------------------------------------------------------------

void GatewaySupervisor::offer(const GatewayOffer& offer) {
  auto memory = sealed_memory(gateway::bundle_policy(offer.files));
  if (!memory) {
    log_error("keeper", memory.error());
    return child_->kill();
  }
  std::vector<protocol::OwnedFd> descriptors;
  descriptors.push_back(std::move(*memory));
  child_->send(protocol::Policy{.generation = offer.generation}, std::move(descriptors));

  std::size_t at = 0;
  do {
    const std::size_t end = std::min(at + protocol::kMaxDescriptors, offer.entries.size());
    protocol::Sockets batch{.last = end == offer.entries.size(), .entries = {}};
    std::vector<protocol::OwnedFd> duplicates;
    for (; at < end; ++at) {
      batch.entries.push_back(offer.entries[at]);
      duplicates.emplace_back(::fcntl(offer.descriptors[at], F_DUPFD_CLOEXEC, 0));
    }
    child_->send(batch, std::move(duplicates));
  } while (at < offer.entries.size());
}

void GatewaySupervisor::prepare(const GatewayOffer& next, Done done) {
  if (!ready_) return done(std::unexpected("the gateway is not ready yet; try again"));
  preparing_ = next.generation;
  prepared_ = std::move(done);
  prepare_timer_.expires_after(kPrepareLimit);
  prepare_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error)
      finish_prepare(std::unexpected("the gateway did not prepare the policy within 30 s"));
  });
  offer(next);
}

void GatewaySupervisor::finish_prepare(std::expected<void, std::string> result) {
  prepare_timer_.cancel();
  if (auto done = std::exchange(prepared_, {})) done(std::move(result));
}

void GatewaySupervisor::commit(std::uint64_t generation, std::function<void()> done) {
  if (!child_) return done();
  committed_ = std::move(done);
  child_->send(protocol::Commit{.generation = generation});
}

void GatewaySupervisor::abandon(std::uint64_t generation) {
  if (child_) child_->send(protocol::Abandon{.generation = generation});
}

// --- messages ------------------------------------------------------------------------------------

void GatewaySupervisor::received(protocol::Received received) {
  if (!child_) return;
  heard_ = Clock::now();
  auto& message = received.message;
  if (const auto* prepared = std::get_if<protocol::Prepared>(&message)) return handle(*prepared);
  if (const auto* committed = std::get_if<protocol::Committed>(&message)) return handle(*committed);
  if (const auto* ready = std::get_if<protocol::Ready>(&message)) return handle(*ready);
  if (auto* reply = std::get_if<protocol::Reply>(&message)) return handle(*reply);
  if (const auto* ban = std::get_if<protocol::Ban>(&message)) return hooks_.ban(*ban);
  if (std::holds_alternative<protocol::WantKernelSamples>(message)) return send_samples();
  if (std::holds_alternative<protocol::Drained>(message)) {
    if (drained_) std::exchange(drained_, {})();
    return;
  }
  log_error("keeper", "the gateway sent what only the keeper may send; ending it");
  child_->kill();
}

void GatewaySupervisor::handle(const protocol::Prepared& message) {
  if (prepared_ && message.generation == preparing_) {
    if (message.ok) return finish_prepare({});
    return finish_prepare(std::unexpected("the gateway refused the policy: " + message.message));
  }
  if (ready_ || message.generation != first_generation_) return;  // of an attempt that was given up
  if (message.ok) {
    child_->send(protocol::Commit{.generation = message.generation});
    return;
  }
  log_error("keeper", "the gateway cannot start", {{"reason", message.message}});
  child_->kill();
}

void GatewaySupervisor::handle(const protocol::Committed&) {
  if (ready_ && committed_) std::exchange(committed_, {})();
}

void GatewaySupervisor::handle(const protocol::Ready&) {
  if (ready_) return;
  ready_ = true;
  if (restarts_ > 0) log_info("keeper", "the next gateway serves", {{"pid", child_->pid()}});
  hooks_.ready();
}

void GatewaySupervisor::send_samples() {
  for (const auto& batch : protocol::in_batches(hooks_.samples()))
    child_->send(batch);
}

void GatewaySupervisor::tell(const protocol::Message& message) {
  if (child_) child_->send(message);
}

void GatewaySupervisor::ask(const std::string& command, Answered answered) {
  if (!ready_) return answered(std::unexpected("the gateway is not ready"));
  const std::uint64_t id = next_question_++;
  auto timer = std::make_unique<boost::asio::steady_timer>(io_);
  timer->expires_after(kAnswerLimit);
  timer->async_wait([this, id](const boost::system::error_code& error) {
    if (error) return;
    if (auto node = questions_.extract(id))
      node.mapped().answered(std::unexpected("the gateway did not answer in time"));
  });
  questions_.emplace(
      id, Question{.text = {}, .answered = std::move(answered), .timer = std::move(timer)});
  child_->send(protocol::Request{.id = id, .command = command});
}

void GatewaySupervisor::handle(protocol::Reply& message) {
  const auto it = questions_.find(message.id);
  if (it == questions_.end()) return;
  it->second.text += message.text;
  if (!message.last && it->second.text.size() <= kMaxAnswer) return;
  auto node = questions_.extract(it);
  if (!message.last)
    return node.mapped().answered(std::unexpected("the gateway's answer is too long"));
  node.mapped().answered(std::move(node.mapped().text));
}

void GatewaySupervisor::drain(std::chrono::milliseconds deadline, std::function<void()> done) {
  draining_ = true;
  spawn_timer_.cancel();
  if (!child_ || !ready_) return done();
  drained_ = std::move(done);
  child_->send(protocol::Drain{.deadline_ms = static_cast<std::uint32_t>(deadline.count())});
  drain_timer_.expires_after(deadline + 2s);
  drain_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error || !drained_) return;
    log_warn("keeper", "the gateway did not finish in time; ending it");
    std::exchange(drained_, {})();
  });
}

}  // namespace sluice::control
