// What calls took, by day, and what budgets have spent, kept in SQLite: workers add it up in memory,
// one thread writes it behind them, once a second.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "gateway/ai/proxy/usage_file.h"

namespace sluice::gateway::ai {

// Any thread, but configure(). What cannot be written waits, and is bounded.
class Ledger {
 public:
  Ledger();
  ~Ledger();  // writes what is left
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // Control thread. Reads what was spent before it returns. `path` "": nothing is kept. `changed`:
  // called by the ledger's thread when others may have spent something.
  void configure(const std::string& path, std::int64_t keep_seconds, std::function<void()> changed);

  void add(const UsageName& of, const UsageCounts& counts);
  void spend(const std::string& account, std::int64_t period, std::int64_t micros);
  // By whoever else writes to the file, and by processes before this one.
  std::int64_t elsewhere(const std::string& account, std::int64_t period) const;

  void flush();  // returns when all that was added before is written, or cannot be

  struct Stats {
    bool writable = false;
    std::uint64_t failures = 0;  // of writing
    std::uint64_t waiting = 0;   // rows
  };
  Stats stats() const;

 private:
  void run();
  void write_once();
  bool open_file();
  void maintain();
  void failed(const std::string& what);

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable written_once_;
  bool stopping_ = false;
  std::uint64_t asked_ = 0;  // flushes
  std::uint64_t done_ = 0;
  std::string path_;
  std::int64_t keep_ = 0;
  std::function<void()> changed_;
  UsageBatch pending_;
  SpentSums written_;    // by this process, to this file
  SpentSums elsewhere_;  // in the file, less that, as last read
  bool writable_ = false;
  std::uint64_t failures_ = 0;

  std::mutex file_mutex_;  // before mutex_
  std::unique_ptr<UsageFile> file_;
  bool complained_ = false;
  std::int64_t pruned_ = 0;
  std::thread thread_;
};

}  // namespace sluice::gateway::ai
