#include "gateway/main/gateway_supervisor.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/control/last_good.h"
#include "gateway/log.h"
#include "gateway/main/sealed_memory.h"
#include "policy/carried_state.h"

namespace sluice::control {
namespace {

namespace protocol = kernel::protocol;
using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;
using namespace std::chrono_literals;

constexpr auto kPrepareLimit = 30s;
constexpr auto kStartLimit = 5min;  // of silence: it compiles the policy
constexpr auto kAnswerLimit = 2s;
constexpr auto kSamplesPause = 500ms;
constexpr auto kHeartbeatLimit = 3s;
constexpr auto kQuickDeath =
    5s;  // a gateway that lived less has a problem that the next one will have too
constexpr auto kLongestPause = 5s;
constexpr std::size_t kMaxAnswer = 16UL << 20;

}  // namespace

GatewaySupervisor::GatewaySupervisor(boost::asio::io_context& io, std::string user, Hooks hooks)
    : io_(io),
      user_(std::move(user)),
      hooks_(std::move(hooks)),
      start_timer_(io),
      prepare_timer_(io),
      drain_timer_(io),
      hang_timer_(io) {
  watch_for_hang();
}

GatewaySupervisor::~GatewaySupervisor() = default;

void GatewaySupervisor::start() {
  start_next();
}

// --- life and death ------------------------------------------------------------------------------

std::expected<std::unique_ptr<GatewaySupervisor::Instance>, std::string> GatewaySupervisor::spawn(
    const GatewayOffer& offer) {
  auto instance = std::make_unique<Instance>(
      Instance{.id = next_id_++, .hello = offer.hello, .generation = offer.generation});
  auto child = GatewayChild::spawn(
      io_, user_,
      [this, id = instance->id](protocol::Received message) { received(id, std::move(message)); });
  if (!child) return std::unexpected(child.error());
  instance->child = std::move(*child);
  log_info("keeper", "gateway started", {{"pid", instance->child->pid()}});
  instance->child->send(offer.hello);
  feed(*instance, offer);
  return instance;
}

void GatewaySupervisor::start_next() {
  const GatewayOffer current = hooks_.current();
  auto next = spawn(current);
  if (next) {
    next_ = std::move(*next);
    return;
  }
  log_error("keeper", next.error());
  ++quick_deaths_;
  schedule_start();
}

void GatewaySupervisor::schedule_start() {
  // The first next one comes at once, then 100 ms, 200 ms, … 5 s.
  const auto pause = quick_deaths_ <= 1
                         ? 0ms
                         : std::min<std::chrono::milliseconds>(
                               100ms * (1 << std::min(quick_deaths_ - 2, 10U)), kLongestPause);
  start_timer_.expires_after(pause);
  start_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !next_ && !draining_) start_next();
  });
}

void GatewaySupervisor::child_signal() {
  std::vector<std::uint64_t> ended;
  for (const auto& instance : retired_) {
    if (!instance->child->reap().empty()) ended.push_back(instance->id);
  }
  for (const auto id : ended)
    end_retired(id);
  if (next_) {
    if (const std::string how = next_->child->reap(); !how.empty()) next_ended(how);
  }
  if (serving_) {
    if (const std::string how = serving_->child->reap(); !how.empty()) serving_ended(how);
  }
}

// One that prepares a policy has a limit of its own. One that puts it in force waits for its
// workers, which may be for ever.
void GatewaySupervisor::watch_for_hang() {
  hang_timer_.expires_after(1s);
  hang_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    const bool waited_for = !serving_ || !serving_->spoken_to() || next_ || prepared_ || draining_;
    if (hang_watch_.hangs(waited_for || alive(), Clock::now())) replace_hung();
    if (next_ && !prepared_ && Clock::now() - next_->heard > kStartLimit) {
      log_error("keeper", "a gateway that starts does not answer; ending it",
                {{"pid", next_->child->pid()}});
      next_->child->kill();
    }
    watch_for_hang();
  });
}

// What it has open may still be served by its workers: it has until the deadline of a drain.
void GatewaySupervisor::replace_hung() {
  log_error("keeper", "the gateway runs and does not answer; another one takes its place",
            {{"pid", serving_->child->pid()}, {"silent_s", HangWatch::kLimit.count()}});
  ++restarts_;
  // What it was to put in force is in force in the kernel: the next one starts with that.
  finish_commit(std::unexpected("the gateway does not answer"));
  if (!next_) start_next();
}

void GatewaySupervisor::serving_ended(const std::string& how) {
  const auto ended = std::move(serving_);
  if (draining_) return end_if_drained();
  log_error("keeper", "the gateway ended; the next one takes over its sockets",
            {{"pid", ended->child->pid()}, {"how", how}});
  ++restarts_;
  quick_deaths_ = Clock::now() - ended->started < kQuickDeath ? quick_deaths_ + 1 : 1;
  if (!replacing_)
    finish_prepare(
        std::unexpected("the gateway process ended (" + how + ") while it prepared the policy"));
  hooks_.died();
  if (!replacing_) finish_commit(std::unexpected("the gateway process ended (" + how + ")"));
  for (auto& [id, question] : std::exchange(questions_, {}))
    question.answered(std::unexpected("the gateway ended"));
  if (!next_) schedule_start();
}

void GatewaySupervisor::next_ended(const std::string& how) {
  const auto ended = std::move(next_);
  if (draining_) return;
  log_error("keeper", "a gateway ended before it served",
            {{"pid", ended->child->pid()}, {"how", how}});
  const bool was_replacing = std::exchange(replacing_, false);
  if (was_replacing && prepared_) {
    finish_prepare(std::unexpected("the new gateway process ended (" + how + ")"));
    if (!serving_ && !next_) schedule_start();
    return;
  }
  ++restarts_;
  quick_deaths_ = Clock::now() - ended->started < kQuickDeath ? quick_deaths_ + 1 : 1;
  finish_commit(std::unexpected("the new gateway process ended (" + how + ")"));
  schedule_start();
}

void GatewaySupervisor::promote_next() {
  auto before = std::exchange(serving_, std::move(next_));
  replacing_ = false;
  if (before) {
    ++replacements_;
    log_info("keeper", "the next gateway serves, the one before finishes what is open",
             {{"pid", serving_->child->pid()}, {"before", before->child->pid()}});
    for (auto& [id, question] : std::exchange(questions_, {}))
      question.answered(std::unexpected("the gateway was replaced; ask again"));
    retire(std::move(before), hooks_.drain_deadline());
  } else if (restarts_ > 0) {
    log_info("keeper", "the next gateway serves", {{"pid", serving_->child->pid()}});
  }
  finish_commit({});
  hooks_.ready();
}

void GatewaySupervisor::retire(std::unique_ptr<Instance> instance,
                               std::chrono::milliseconds deadline) {
  instance->child->send(protocol::Drain{.deadline_ms = static_cast<std::uint32_t>(deadline.count()),
                                        .replaced = true});
  instance->deadline = std::make_unique<boost::asio::steady_timer>(io_);
  instance->deadline->expires_after(deadline + 2s);
  instance->deadline->async_wait([this, id = instance->id](const boost::system::error_code& error) {
    if (error) return;
    log_warn("keeper", "a gateway that was replaced did not finish in time; ending it");
    end_retired(id);
  });
  retired_.push_back(std::move(instance));
}

void GatewaySupervisor::retire_serving() {
  start_timer_.cancel();
  next_.reset();
  if (serving_) retire(std::move(serving_), hooks_.drain_deadline());
}

void GatewaySupervisor::end_retired(std::uint64_t id) {
  const auto it =
      std::ranges::find_if(retired_, [id](const auto& instance) { return instance->id == id; });
  if (it == retired_.end()) return;
  log_info("keeper", "a gateway that was replaced has gone", {{"pid", (*it)->child->pid()}});
  retired_.erase(it);
  if (draining_) end_if_drained();
}

bool GatewaySupervisor::alive() const {
  return serving_ && (!serving_->spoken_to() || Clock::now() - serving_->heard < kHeartbeatLimit);
}

boost::json::object GatewaySupervisor::status() const {
  boost::json::object out{{"pid", nullptr},
                          {"ready", ready()},
                          {"alive", alive()},
                          {"restarts", restarts_},
                          {"replacements", replacements_}};
  if (const Instance* instance = serving_ ? serving_.get() : next_.get()) {
    out["pid"] = instance->child->pid();
    out["uptime_seconds"] =
        std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - instance->started).count();
  }
  boost::json::array finishing;
  for (const auto& instance : retired_)
    finishing.push_back(instance->child->pid());
  out["finishing"] = std::move(finishing);
  return out;
}

// --- over an exec --------------------------------------------------------------------------------

bool GatewaySupervisor::idle() const {
  const auto quiet = [](const auto& instance) { return instance->child->idle(); };
  return !next_ && !prepared_ && !committed_ && serving_ && quiet(serving_) &&
         std::ranges::all_of(retired_, quiet);
}

std::vector<GatewayLeft> GatewaySupervisor::leave() const {
  std::vector<GatewayLeft> out;
  const auto add = [&out](const Instance& instance) {
    GatewayLeft left{.pid = instance.child->pid(),
                     .channel = instance.child->channel_fd(),
                     .protocol = instance.protocol,
                     .hello = instance.hello};
    if (instance.deadline) {
      left.retired = true;
      left.left = std::chrono::duration_cast<std::chrono::milliseconds>(
          instance.deadline->expiry() - Clock::now());
    }
    out.push_back(left);
  };
  if (serving_) add(*serving_);
  for (const auto& instance : retired_)
    add(*instance);
  return out;
}

std::unique_ptr<GatewaySupervisor::Instance> GatewaySupervisor::adopt(const GatewayLeft& left) {
  auto instance = std::make_unique<Instance>(
      Instance{.id = next_id_++, .hello = left.hello, .protocol = left.protocol});
  instance->child = GatewayChild::adopt(
      io_, left.pid, protocol::OwnedFd(left.channel), !instance->spoken_to(),
      [this, id = instance->id](protocol::Received message) { received(id, std::move(message)); });
  return instance;
}

bool GatewaySupervisor::adopt(const std::vector<GatewayLeft>& left) {
  for (const auto& one : left) {
    if (one.retired) {
      retire(adopt(one), std::max(one.left - 2s, 0ms));
    } else {
      serving_ = adopt(one);
    }
  }
  child_signal();  // of those that ended meanwhile
  return serving_ != nullptr;
}

// --- policy --------------------------------------------------------------------------------------

void GatewaySupervisor::announce(std::uint64_t generation,
                                 const std::vector<policy::PolicyFile>& files) {
  if (!serving_ || next_ || prepared_ || committed_ || !serving_->spoken_to()) return;
  if (!send_policy(*serving_, generation, files)) return;
  serving_->announced = generation;
  serving_->announced_files = files;
}

void GatewaySupervisor::withdraw(std::uint64_t generation) {
  if (serving_ && serving_->announced == generation) forget(*serving_, generation);
}

void GatewaySupervisor::forget(Instance& instance, std::uint64_t generation) {
  instance.child->send(protocol::Abandon{.generation = generation});
  forget_announced(instance);
}

void GatewaySupervisor::forget_announced(Instance& instance) {
  instance.announced = 0;
  instance.announced_files = {};
}

bool GatewaySupervisor::send_policy(Instance& to, std::uint64_t generation,
                                    const std::vector<policy::PolicyFile>& files) {
  auto memory = sealed_memory("sluice-policy", gateway::bundle_policy(files));
  if (!memory) {
    log_error("keeper", memory.error());
    to.child->kill();
    return false;
  }
  std::vector<protocol::OwnedFd> descriptors;
  descriptors.push_back(std::move(*memory));
  to.child->send(protocol::Policy{.generation = generation}, std::move(descriptors));
  return true;
}

void GatewaySupervisor::feed(Instance& instance, const GatewayOffer& offer) {
  const bool known =
      instance.announced == offer.generation && instance.announced_files == offer.files;
  forget_announced(instance);
  if (!known && !send_policy(instance, offer.generation, offer.files)) return;
  if (offer.material && !send_material(instance, offer.generation, *offer.material))
    return instance.child->kill();

  std::size_t at = 0;
  do {
    const std::size_t end = std::min(at + protocol::kMaxDescriptors, offer.entries.size());
    protocol::Sockets batch{.last = end == offer.entries.size(), .entries = {}};
    std::vector<protocol::OwnedFd> duplicates;
    for (; at < end; ++at) {
      batch.entries.push_back(offer.entries[at]);
      duplicates.emplace_back(::fcntl(offer.descriptors[at], F_DUPFD_CLOEXEC, 0));
    }
    instance.child->send(batch, std::move(duplicates));
  } while (at < offer.entries.size());
}

bool GatewaySupervisor::send_material(Instance& to, std::uint64_t generation,
                                      const gateway::tls::Material& material) {
  auto memory = sealed_memory("sluice-tls", gateway::tls::serialize(material).view());
  if (!memory) {
    log_error("keeper", memory.error());
    return false;
  }
  std::vector<protocol::OwnedFd> descriptors;
  descriptors.push_back(std::move(*memory));
  to.child->send(protocol::Material{.generation = generation}, std::move(descriptors));
  return true;
}

void GatewaySupervisor::refresh(std::uint64_t generation, const gateway::tls::Material& material) {
  if (serving_ && serving_->spoken_to()) send_material(*serving_, generation, material);
}

void GatewaySupervisor::prepare(const GatewayOffer& offer, bool replace, Done done) {
  if (!serving_ || next_ || prepared_ || committed_)
    return done(std::unexpected("the gateway is not ready yet; try again"));
  replacing_ = replace || !serving_->spoken_to() || serving_->hello != offer.hello;
  if (replacing_) {
    auto next = spawn(offer);
    if (!next) {
      replacing_ = false;
      return done(std::unexpected(next.error()));
    }
    next_ = std::move(*next);
    withdraw(offer.generation);
  }
  preparing_ = offer.generation;
  prepared_ = std::move(done);
  prepare_timer_.expires_after(kPrepareLimit);
  prepare_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error)
      finish_prepare(std::unexpected("the gateway did not prepare the policy within 30 s"));
  });
  if (!replacing_) feed(*serving_, offer);
}

void GatewaySupervisor::finish_prepare(std::expected<void, std::string> result) {
  prepare_timer_.cancel();
  if (auto done = std::exchange(prepared_, {})) done(std::move(result));
}

void GatewaySupervisor::finish_commit(std::expected<void, std::string> result) {
  if (auto done = std::exchange(committed_, {})) done(std::move(result));
}

void GatewaySupervisor::commit(std::uint64_t generation, Done done) {
  Instance* taker = replacing_ ? next_.get() : serving_.get();
  if (taker == nullptr) return done(std::unexpected("the gateway process ended"));
  committed_ = std::move(done);
  if (!replacing_) return (void)taker->child->send(protocol::Commit{.generation = generation});
  collect_memory(true, [this, generation, id = taker->id](const auto& memory) {
    // Kept as well: it may crash before it was asked for the first time.
    if (memory) set_memory(*memory);
    if (next_ && next_->id == id) send_commit(*next_, generation, memory_);
  });
}

// A gateway begins with what the one before remembered.
void GatewaySupervisor::send_commit(Instance& to, std::uint64_t generation,
                                    std::string_view memory) {
  if (!memory.empty()) {
    auto shared = sealed_memory("sluice-memory", memory);
    std::vector<protocol::OwnedFd> descriptors;
    if (shared) {
      descriptors.push_back(std::move(*shared));
      to.child->send(protocol::Memory{}, std::move(descriptors));
    } else {
      log_warn("keeper", "the next gateway begins without memory", {{"reason", shared.error()}});
    }
  }
  to.child->send(protocol::Commit{.generation = generation});
}

void GatewaySupervisor::collect_memory(bool limits, Collected collected) {
  protocol::OwnedFd shared(::memfd_create("sluice-memory", MFD_CLOEXEC));
  protocol::OwnedFd theirs(shared ? ::fcntl(shared.get(), F_DUPFD_CLOEXEC, 0) : -1);
  if (!serving_ || !serving_->spoken_to() || !theirs) return collected(std::nullopt);
  const std::uint64_t id = next_question_++;
  auto ours = std::make_shared<protocol::OwnedFd>(std::move(shared));
  put_question(id, [ours, collected = std::move(collected)](const auto& answer) {
    collected(answer ? std::optional(read_memory_text(ours->get(), policy::CarriedState::kMaxBytes))
                     : std::nullopt);
  });
  std::vector<protocol::OwnedFd> descriptors;
  descriptors.push_back(std::move(theirs));
  serving_->child->send(protocol::Memory{.id = id, .limits = limits}, std::move(descriptors));
}

void GatewaySupervisor::abandon(std::uint64_t generation) {
  if (std::exchange(replacing_, false)) {
    next_.reset();
  } else if (serving_) {
    forget(*serving_, generation);
  }
}

// --- messages ------------------------------------------------------------------------------------

GatewaySupervisor::Instance* GatewaySupervisor::find(std::uint64_t id) {
  for (const auto* instance : {&serving_, &next_}) {
    if (*instance && (*instance)->id == id) return instance->get();
  }
  for (const auto& instance : retired_) {
    if (instance->id == id) return instance.get();
  }
  return nullptr;
}

void GatewaySupervisor::received(std::uint64_t id, protocol::Received received) {
  Instance* from = find(id);
  if (from == nullptr) return;
  from->heard = Clock::now();
  auto& message = received.message;
  if (const auto* drained = std::get_if<protocol::Drained>(&message))
    return handle(*from, *drained);
  if (const auto* prepared = std::get_if<protocol::Prepared>(&message))
    return handle(*from, *prepared);
  if (std::holds_alternative<protocol::Committed>(message)) {
    if (from == serving_.get() && !replacing_) finish_commit({});
    return;
  }
  if (std::holds_alternative<protocol::Ready>(message)) {
    if (from == next_.get()) promote_next();
    return;
  }
  if (auto* reply = std::get_if<protocol::Reply>(&message)) return handle(*reply);
  if (const auto* ban = std::get_if<protocol::Ban>(&message)) return hooks_.ban(*ban);
  if (std::holds_alternative<protocol::WantKernelSamples>(message)) return send_samples(*from);
  log_error("keeper", "the gateway sent what only the keeper may send; ending it");
  from->child->kill();
}

void GatewaySupervisor::handle(Instance& from, const protocol::Prepared& message) {
  const bool of_next = &from == next_.get();
  if (prepared_ && message.generation == preparing_ && of_next == replacing_) {
    if (message.ok) return finish_prepare({});
    return finish_prepare(std::unexpected("the gateway refused the policy: " + message.message));
  }
  if (!of_next || message.generation != from.generation) return;  // of an attempt given up
  if (message.ok) {
    if (std::string newer = hooks_.remembered(); !newer.empty()) set_memory(std::move(newer));
    return send_commit(from, message.generation, memory_);
  }
  log_error("keeper", "the gateway cannot start", {{"reason", message.message}});
  from.child->kill();
}

void GatewaySupervisor::handle(const Instance& from, const protocol::Drained&) {
  if (from.deadline) return end_retired(from.id);
  if (&from != serving_.get() || !draining_) return;
  serving_.reset();
  end_if_drained();
}

void GatewaySupervisor::send_samples(Instance& to) {
  if (to.deadline || !to.spoken_to()) return;
  // A gateway asks once a second. One that was taken over must not keep this process counting: with
  // full tables that takes tens of milliseconds, and leases wait.
  if (Clock::now() - to.sampled < kSamplesPause) return;
  to.sampled = Clock::now();
  for (const auto& batch : protocol::in_batches(hooks_.samples()))
    to.child->send(batch);
}

void GatewaySupervisor::tell(const protocol::Message& message) {
  if (serving_ && serving_->spoken_to()) serving_->child->send(message);
}

void GatewaySupervisor::ask(const std::string& command, Answered answered) {
  if (!serving_ || !serving_->spoken_to())
    return answered(std::unexpected("the gateway is not ready"));
  const std::uint64_t id = next_question_++;
  put_question(id, std::move(answered));
  serving_->child->send(protocol::Request{.id = id, .command = command});
}

void GatewaySupervisor::put_question(std::uint64_t id, Answered answered) {
  auto timer = std::make_unique<boost::asio::steady_timer>(io_);
  timer->expires_after(kAnswerLimit);
  timer->async_wait([this, id](const boost::system::error_code& error) {
    if (error) return;
    if (auto node = questions_.extract(id))
      node.mapped().answered(std::unexpected("the gateway did not answer in time"));
  });
  questions_.emplace(
      id, Question{.text = {}, .answered = std::move(answered), .timer = std::move(timer)});
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
  start_timer_.cancel();
  next_.reset();
  drained_ = std::move(done);
  if (serving_)
    serving_->child->send(
        protocol::Drain{.deadline_ms = static_cast<std::uint32_t>(deadline.count())});
  drain_timer_.expires_after(deadline + 2s);
  drain_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error || !drained_) return;
    log_warn("keeper", "the gateway did not finish in time; ending it");
    std::exchange(drained_, {})();
  });
  end_if_drained();
}

void GatewaySupervisor::end_if_drained() {
  if (!serving_ && retired_.empty() && drained_) std::exchange(drained_, {})();
}

}  // namespace sluice::control
