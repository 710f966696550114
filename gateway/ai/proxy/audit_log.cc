#include "gateway/ai/proxy/audit_log.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <sys/stat.h>
#include <utility>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/filter/json_filter.h"
#include "gateway/ai/filter/stream_redactor.h"
#include "gateway/ai/proxy/answer_filter.h"
#include "gateway/log.h"
#include "gateway/text_escapes.h"

namespace sluice::gateway::ai {
namespace {

constexpr int kPatienceMs = 1000;
constexpr std::chrono::seconds kLookEvery{1};

std::pair<std::uint64_t, std::uint64_t> file_of(const std::string& path) {
  struct stat status{};
  if (path == "stdout" || path == "stderr" || ::stat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino};
}

std::string time_text(std::int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  const std::string fraction = std::to_string(1000 + unix_ms % 1000);
  return std::string(text, size) + "." + fraction.substr(1) + "Z";
}

// JSON stays JSON; a part of it, or a stream, is a text.
json::value content(std::string text, bool whole, const TextFilter& filter) {
  Findings findings;
  boost::system::error_code error;
  json::value parsed = whole ? json::parse(text, error) : json::value();
  if (whole && !error) {
    filter_json(filter, text, findings);
    parsed = json::parse(text, error);
    if (!error) return parsed;
  }
  filter.redact(text, findings);
  return json::string(text);
}

bool is_stream(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of("\r\n"), text.size()));
  return std::ranges::any_of(
      std::array<std::string_view, 5>{"data:", "event:", "id:", "retry:", ":"},
      [&](std::string_view field) { return text.starts_with(field); });
}

// Gemini's stream without SSE; of a part of it, the elements that are whole.
std::string whole_elements(std::string_view list) {
  std::size_t end = 1;
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t at = 1; at < list.size(); ++at) {
    const char c = list[at];
    if (in_string) {
      if (c == '\\') ++at;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) break;
      if (--depth == 0) end = at + 1;
    }
  }
  return std::string(list.substr(0, end)) + "]";
}

// What a stream says in pieces is found where they are put together; where it was cut, its last
// word may be missing.
json::value answer_content(std::string text, bool whole, Shape shape, const TextFilter& filter) {
  if (is_stream(text)) {
    StreamRedactor redactor(shape, filter);
    std::string out;
    redactor.feed(text, out);
    if (whole) redactor.end(out);
    Findings findings;
    filter.redact(out, findings);
    return json::string(out);
  }
  if (shape != Shape::gemini || !text.starts_with('['))
    return content(std::move(text), whole, filter);
  AnswerFilter list(shape, filter, true);
  std::string out;
  list.feed(whole ? std::move(text) : whole_elements(text), out);
  list.end(out);
  return content(std::move(out), whole, filter);
}

// A character that was cut at the end would make the line no UTF-8.
void trim_to_characters(std::string& text) {
  std::size_t at = text.size();
  while (at > 0 && text.size() - at < 4 && (static_cast<unsigned char>(text[at - 1]) & 0xc0) == 0x80)
    --at;
  if (at > 0 && static_cast<unsigned char>(text[at - 1]) >= 0xc0) text.resize(at - 1);
}

}  // namespace

AuditLog::AuditLog()
    : filter_(TextFilter::compile({{.name = "audit", .find = {"secrets", "personal"}, .pattern = {}}})
                  .value()) {}

AuditLog::~AuditLog() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::expected<void, std::string> AuditLog::configure(const policy::AiAudit& config) {
  {
    const std::scoped_lock lock(mutex_);
    max_memory_ = config.max_memory;
  }
  if (thread_.joinable() && path_ == config.path) return {};
  auto sink = LogSink::open(config.path);
  if (!sink) return std::unexpected(sink.error());
  {
    const std::scoped_lock lock(sink_mutex_);
    sink_ = std::move(*sink);
    path_ = config.path;
    file_ = file_of(path_);
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  return {};
}

// With the sink's lock.
void AuditLog::follow_file() {
  const auto now = std::chrono::steady_clock::now();
  if (now - looked_ < kLookEvery) return;
  looked_ = now;
  if (file_of(path_) == file_) return;
  auto sink = LogSink::open(path_);
  if (!sink) return log_error("ai", "the audit log stays where it is", {{"error", sink.error()}});
  sink_ = std::move(*sink);
  file_ = file_of(path_);
}

void AuditLog::add(AuditEntry entry) {
  {
    const std::scoped_lock lock(mutex_);
    if (memory_ + entry.memory() > max_memory_) {
      ++dropped_;
      return;
    }
    memory_ += entry.memory();
    queue_.push_back(std::move(entry));
  }
  wake_.notify_one();
}

AuditLog::Stats AuditLog::stats() const {
  const std::scoped_lock lock(mutex_);
  return {.written = written_, .dropped = dropped_};
}

// What a line takes of the memory is free again when it is written.
void AuditLog::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    AuditEntry entry = std::move(queue_.front());
    queue_.pop_front();
    const std::size_t memory = entry.memory();
    lock.unlock();
    const std::string text = line(entry);
    bool good = false;
    {
      const std::scoped_lock sink_lock(sink_mutex_);
      follow_file();
      good = sink_.write(text, kPatienceMs) == text.size();
    }
    lock.lock();
    memory_ -= memory;
    ++(good ? written_ : dropped_);
  }
}

std::string AuditLog::line(AuditEntry& entry) const {
  json::object out{{"time", time_text(entry.time_ms)},
                   {"duration_ms", entry.duration_ms},
                   {"client", entry.client},
                   {"route", entry.route},
                   {"operation", entry.operation},
                   {"path", entry.path},
                   {"model", entry.asked_model},
                   {"status", entry.status}};
  const auto say = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) out[name] = value;
  };
  say("key", entry.key);
  say("team", entry.team);
  say("owner", entry.owner);
  say("provider", entry.provider);
  say("provider_model", entry.model);
  say("error", entry.error);
  if (entry.cached) out["cached"] = true;
  out["usage"] = json::object{{"input", entry.usage.uncached},
                              {"cache_read", entry.usage.cache_read},
                              {"cache_write", entry.usage.cache_write},
                              {"output", entry.usage.output},
                              {"reasoning", entry.usage.reasoning}};
  out["dollars"] = static_cast<double>(entry.micros) / 1e6;
  const auto trimmed = [&](std::string_view name, std::string& text, std::size_t size) {
    const bool whole = text.size() == size;
    if (!whole) {
      trim_to_characters(text);
      out[std::string(name) + "_bytes"] = size;
    }
    return whole;
  };
  const bool request = trimmed("request", entry.request, entry.request_size);
  const bool answer = trimmed("answer", entry.answer, entry.answer_size);
  out["request"] = content(std::move(entry.request), request, filter_);
  out["answer"] = answer_content(std::move(entry.answer), answer, entry.shape, filter_);
  // Bodies, paths and names are whatever callers and vendors have sent.
  return repaired_utf8(json::serialize(out)) + "\n";
}

}  // namespace sluice::gateway::ai
