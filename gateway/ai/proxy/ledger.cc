#include "gateway/ai/proxy/ledger.h"

#include <chrono>
#include <utility>

#include "gateway/ai/proxy/calendar.h"
#include "gateway/clocks.h"
#include "gateway/log.h"

namespace sluice::gateway::ai {
namespace {

using namespace std::chrono_literals;

constexpr auto kInterval = 1s;
constexpr std::size_t kMostWaiting = 50'000;  // rows, while the file cannot be written
constexpr std::int64_t kLongestPeriod = 32L * 24 * 3600;
constexpr std::int64_t kPruneEvery = 3600;
constexpr std::string_view kOthers = "(others)";

}  // namespace

Ledger::Ledger() = default;

Ledger::~Ledger() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Ledger::configure(const std::string& path, std::int64_t keep_seconds,
                       std::function<void()> changed) {
  const std::scoped_lock file_lock(file_mutex_);
  std::unique_lock lock(mutex_);
  keep_ = keep_seconds;
  changed_ = std::move(changed);
  if (path == path_ && thread_.joinable()) return;
  path_ = path;
  file_.reset();
  written_.clear();
  elsewhere_.clear();
  complained_ = false;
  pruned_ = 0;
  if (path_.empty()) return;
  lock.unlock();
  if (open_file()) maintain();
  lock.lock();
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
}

void Ledger::add(const UsageName& of, const UsageCounts& counts) {
  const std::scoped_lock lock(mutex_);
  if (path_.empty()) return;
  if (const auto known = pending_.rows.find(of); known != pending_.rows.end()) {
    known->second += counts;
  } else if (pending_.rows.size() < kMostWaiting) {
    pending_.rows[{std::string(of.day), std::string(of.key), std::string(of.team),
                   std::string(of.provider), std::string(of.model)}] += counts;
  } else {
    pending_.rows[{std::string(of.day), std::string(kOthers), {}, {}, {}}] += counts;
  }
}

void Ledger::spend(const std::string& account, std::int64_t period, std::int64_t micros) {
  const std::scoped_lock lock(mutex_);
  if (!path_.empty()) pending_.spent[{account, period}] += micros;
}

std::int64_t Ledger::elsewhere(const std::string& account, std::int64_t period) const {
  const std::scoped_lock lock(mutex_);
  const auto known = elsewhere_.find({account, period});
  return known != elsewhere_.end() ? known->second : 0;
}

void Ledger::flush() {
  std::unique_lock lock(mutex_);
  if (!thread_.joinable()) return;
  const std::uint64_t turn = ++asked_;
  wake_.notify_all();
  written_once_.wait(lock, [&] { return done_ >= turn; });
}

Ledger::Stats Ledger::stats() const {
  const std::scoped_lock lock(mutex_);
  return {.writable = writable_,
          .failures = failures_,
          .waiting = pending_.rows.size() + pending_.spent.size()};
}

void Ledger::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    wake_.wait_for(lock, kInterval, [&] { return stopping_ || asked_ > done_; });
    const std::uint64_t turn = asked_;
    lock.unlock();
    write_once();
    lock.lock();
    done_ = turn;
    written_once_.notify_all();
  }
  lock.unlock();
  write_once();
}

bool Ledger::open_file() {
  if (file_) return true;
  auto opened = UsageFile::open(path_);
  if (!opened) {
    failed(opened.error());
    return false;
  }
  file_ = std::make_unique<UsageFile>(std::move(*opened));
  return true;
}

// Once for each time that it stops to work.
void Ledger::failed(const std::string& what) {
  if (!std::exchange(complained_, true)) {
    log_error("ai", "usage and budgets are not kept, but in memory; trying on",
              {{"error", what}, {"needs", "a directory that the gateway may write to (ai.usage)"}});
  }
  file_.reset();
  const std::scoped_lock lock(mutex_);
  ++failures_;
  writable_ = false;
}

void Ledger::write_once() {
  const std::scoped_lock file_lock(file_mutex_);
  if (path_.empty() || !open_file()) return;
  std::unique_lock lock(mutex_);
  UsageBatch batch = std::exchange(pending_, {});
  lock.unlock();
  const auto written = batch.empty() ? std::expected<void, std::string>{} : file_->write(batch);
  if (!written) failed(written.error());
  lock.lock();
  if (!written) {
    for (const auto& [key, counts] : batch.rows)
      pending_.rows[key] += counts;
    for (const auto& [of, micros] : batch.spent)
      pending_.spent[of] += micros;
    return;
  }
  for (const auto& [of, micros] : batch.spent)
    written_[of] += micros;
  writable_ = true;
  lock.unlock();
  if (std::exchange(complained_, false)) log_info("ai", "usage and budgets are kept again");
  maintain();
}

// Takes what is too old out of the file, and looks what others have put there.
void Ledger::maintain() {
  const std::int64_t now = unix_now();
  const std::int64_t since = now - kLongestPeriod;
  std::unique_lock lock(mutex_);
  const std::int64_t keep = keep_;
  const std::function<void()> changed = changed_;
  lock.unlock();
  if (now - pruned_ >= kPruneEvery) {
    pruned_ = now;
    if (auto done = file_->prune(day_text(now - keep), since); !done) return failed(done.error());
  }
  if (!file_->changed_by_others()) return;
  auto sums = file_->spent(since);
  if (!sums) return failed(sums.error());
  lock.lock();
  std::erase_if(written_, [&](const auto& entry) { return entry.first.second < since; });
  for (const auto& [of, micros] : written_)
    (*sums)[of] -= micros;
  elsewhere_ = std::move(*sums);
  writable_ = true;
  lock.unlock();
  if (changed) changed();
}

}  // namespace sluice::gateway::ai
