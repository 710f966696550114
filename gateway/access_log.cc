#include "gateway/access_log.h"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <poll.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "gateway/log.h"
#include "gateway/log_sink.h"

namespace sluice::gateway {

namespace {

using Format = policy::AccessLogConfig::Format;

constexpr std::size_t kBatchBytes = 64 * 1024;
constexpr int kBusyPauseMs =
    20;  // while records come: the longest that a line waits, and the size of a batch
constexpr int kQuietRounds = 50;  // without a record before the writer sleeps until it is woken
constexpr int kStuckMs = 1000;    // a reader that takes nothing for so long loses lines

}  // namespace

struct AccessLog::State {
  ~State() {
    if (writer.joinable()) {
      stopping.store(true);
      wake_writer();
      writer.join();
    }
    if (wake_fd >= 0) ::close(wake_fd);
  }

  void run();
  std::size_t drain();
  void write_batch();
  void write_to(LogSink next);  // under the lock
  void sleep(int milliseconds) const;
  void wait_for_records();
  void wake_writer() {
    sleeping.store(0);
    ::eventfd_write(wake_fd, 1);
  }
  bool empty() const {
    for (const auto& ring : rings) {
      if (ring->front() != nullptr) return false;
    }
    return true;
  }

  std::vector<std::unique_ptr<AccessRing>> rings;
  int wake_fd = -1;
  std::atomic<int> sleeping{0};  // 1: the next commit() must wake the writer
  std::atomic<bool> stopping{false};
  std::atomic<bool> enabled{true};
  std::atomic<std::uint64_t> written{0};
  std::atomic<std::uint64_t> lost{0};

  std::mutex mutex;  // the writer and the control thread; never a worker
  std::condition_variable flushed;
  LogSink sink;
  std::string path;
  Format format = Format::json;
  struct Refused {
    policy::AccessLogConfig config;
    std::string error;
  };
  std::optional<Refused> refused;  // could not be opened: the one before goes on
  std::uint64_t flushes_wanted = 0;
  std::uint64_t flushes_done = 0;

  std::string batch;
  std::uint64_t batch_lines = 0;
  bool failing = false;
  bool torn = false;  // the last line there is cut: what comes next begins a new one
  std::thread writer;
};

void AccessLog::State::sleep(int milliseconds) const {
  pollfd wait{wake_fd, POLLIN, 0};
  if (::poll(&wait, 1, milliseconds) > 0) {
    eventfd_t ignored = 0;
    ::eventfd_read(wake_fd, &ignored);
  }
}

void AccessLog::State::wait_for_records() {
  sleeping.store(1);
  if (empty() && !stopping.load()) sleep(-1);
  sleeping.store(0);
}

void AccessLog::State::run() {
  int quiet_rounds = 0;
  while (true) {
    const bool last = stopping.load();
    std::size_t records = 0;
    {
      const std::lock_guard lock(mutex);
      const std::uint64_t wanted = flushes_wanted;
      records = drain();
      flushes_done = wanted;
    }
    flushed.notify_all();
    if (last) return;
    quiet_rounds = records == 0 ? quiet_rounds + 1 : 0;
    if (quiet_rounds < kQuietRounds) {
      sleep(kBusyPauseMs);
    } else {
      wait_for_records();
      quiet_rounds = 0;
    }
  }
}

// At most a ring's worth of each: a busy worker must not keep the control thread from the lock.
std::size_t AccessLog::State::drain() {
  std::size_t records = 0;
  for (const auto& ring : rings) {
    for (std::size_t i = 0; i <= ring->mask_; ++i) {
      const AccessRecord* record = ring->front();
      if (record == nullptr) break;
      if (format != Format::none) {
        format == Format::json ? format_access_json(*record, batch)
                               : format_access_text(*record, batch);
        batch += '\n';
        ++batch_lines;
      }
      ring->pop();
      ++records;
      if (batch.size() >= kBatchBytes) write_batch();
    }
  }
  write_batch();
  return records;
}

// A place that takes nothing is waited for once; until it takes something again it costs no time,
// so that a reload, which needs the lock, is not held up.
void AccessLog::State::write_batch() {
  if (batch.empty()) return;
  if (torn) batch.insert(0, 1, '\n');
  const std::size_t went = sink.write(batch, failing ? 0 : kStuckMs);
  const int error = errno;
  const std::string_view there = std::string_view(batch).substr(0, went);
  auto lines = static_cast<std::uint64_t>(std::ranges::count(there, '\n'));
  if (torn && went > 0) --lines;
  if (went > 0) torn = there.back() != '\n';
  written.fetch_add(lines, std::memory_order_relaxed);
  lost.fetch_add(batch_lines - lines, std::memory_order_relaxed);
  const bool all = went == batch.size();
  if (!all && !failing) {
    log_warn("access log", "lines are lost: the place that they go to does not take them",
             {{"path", path.empty() ? "stderr" : path},
              {"error", error == EAGAIN ? "nobody reads" : std::generic_category().message(error)}});
  }
  failing = !all;
  batch.clear();
  batch_lines = 0;
}

void AccessLog::State::write_to(LogSink next) {
  drain();  // what was logged before goes where that said
  if (!sink.same_place(next)) failing = torn = false;
  sink = std::move(next);
}

AccessLog::AccessLog(std::unique_ptr<State> state) : state_(std::move(state)) {}
AccessLog::~AccessLog() = default;

std::expected<std::unique_ptr<AccessLog>, std::string> AccessLog::open(
    Options options, const policy::AccessLogConfig& config) {
  auto state = std::make_unique<State>();
  state->wake_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (state->wake_fd < 0) {
    return std::unexpected("access log: eventfd: " + std::generic_category().message(errno));
  }
  for (std::uint32_t i = 0; i < options.workers; ++i) {
    auto& ring = state->rings.emplace_back(std::make_unique<AccessRing>(options.ring_capacity));
    ring->wake_ = &state->sleeping;
    ring->wake_fd_ = state->wake_fd;
  }
  state->batch.reserve(kBatchBytes + 4096);
  std::unique_ptr<AccessLog> log(new AccessLog(std::move(state)));  // NOLINT: private constructor
  if (auto done = log->configure(config); !done) return std::unexpected(done.error());
  log->state_->writer = std::thread([s = log->state_.get()] { s->run(); });
  return log;
}

AccessRing& AccessLog::ring(std::uint32_t index) {
  return *state_->rings.at(index);
}
bool AccessLog::enabled() const {
  return state_->enabled.load(std::memory_order_relaxed);
}

std::expected<void, std::string> AccessLog::configure(const policy::AccessLogConfig& config) {
  auto sink = config.format == Format::none ? std::expected<LogSink, std::string>(LogSink())
                                            : LogSink::open(config.path);
  const std::lock_guard lock(state_->mutex);
  if (!sink) {
    state_->refused = {config, sink.error()};
    return std::unexpected(sink.error());
  }
  state_->refused.reset();
  state_->write_to(std::move(*sink));
  state_->path = config.path;
  state_->format = config.format;
  state_->enabled.store(config.format != Format::none, std::memory_order_relaxed);
  return {};
}

std::expected<void, std::string> AccessLog::reopen() {
  std::optional<policy::AccessLogConfig> refused;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->refused) refused = state_->refused->config;
  }
  if (!refused) return reopen_in_force();
  auto done = configure(*refused);
  if (!done) (void)reopen_in_force();  // it may have been rotated
  return done;
}

std::string AccessLog::problem() const {
  const std::lock_guard lock(state_->mutex);
  return state_->refused ? state_->refused->error : "";
}

std::expected<void, std::string> AccessLog::reopen_in_force() {
  const std::lock_guard lock(state_->mutex);
  if (state_->format == Format::none) return {};
  auto sink = LogSink::open(state_->path);
  if (!sink) return std::unexpected(sink.error());
  state_->write_to(std::move(*sink));
  return {};
}

void AccessLog::flush() {
  std::unique_lock lock(state_->mutex);
  const std::uint64_t ours = ++state_->flushes_wanted;
  state_->wake_writer();
  state_->flushed.wait(lock, [&] { return state_->flushes_done >= ours; });
}

std::uint64_t AccessLog::dropped() const {
  std::uint64_t total = state_->lost.load(std::memory_order_relaxed);
  for (const auto& ring : state_->rings)
    total += ring->dropped();
  return total;
}

std::uint64_t AccessLog::written() const {
  return state_->written.load(std::memory_order_relaxed);
}

}  // namespace sluice::gateway
