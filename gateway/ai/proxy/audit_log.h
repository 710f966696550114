// Requests and answers as they were, for those who must keep them: a line of JSON for each call,
// without secrets and personal data. Workers put calls into bounded memory; one thread redacts,
// formats and writes.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <expected>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "gateway/ai/conversation.h"
#include "gateway/ai/filter/text_filter.h"
#include "gateway/ai/shape.h"
#include "gateway/log_sink.h"
#include "policy/config/ai.h"

namespace sluice::gateway::ai {

struct AuditEntry {
  std::int64_t time_ms = 0;  // Unix time, of the call's begin
  std::int64_t duration_ms = 0;
  std::string key, team, owner, route, client;
  std::string operation, path, provider, model, asked_model;
  int status = 0;
  std::string error;  // "": the answer was whole
  Usage usage;
  std::int64_t micros = 0;
  bool cached = false;
  std::string request;
  std::string answer;
  std::size_t request_size = 0;  // of all of it
  std::size_t answer_size = 0;
  Shape shape = Shape::openai;  // of the answer

  std::size_t memory() const { return request.size() + answer.size() + 512; }
};

// Any thread, but configure(). A file that was moved away is made anew within a second, so that it
// can be rotated without a word to this process.
class AuditLog {
 public:
  AuditLog();
  ~AuditLog();  // writes what is queued
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  // Control thread. On error the old place stays.
  std::expected<void, std::string> configure(const policy::AiAudit& config);
  // Never waits: what is more than max_memory is dropped, and counted.
  void add(AuditEntry entry);

  struct Stats {
    std::uint64_t written = 0;
    std::uint64_t dropped = 0;
  };
  Stats stats() const;

 private:
  void run();
  void follow_file();
  std::string line(AuditEntry& entry) const;

  TextFilter filter_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::deque<AuditEntry> queue_;
  std::size_t memory_ = 0;  // of the queue
  std::size_t max_memory_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t dropped_ = 0;
  std::mutex sink_mutex_;
  std::string path_;
  LogSink sink_;
  std::pair<std::uint64_t, std::uint64_t> file_;  // device and inode; 0: no file
  std::chrono::steady_clock::time_point looked_;
  std::thread thread_;
};

}  // namespace sluice::gateway::ai
