// The file of what calls took and what budgets have spent (SQLite). Written by the gateway's ledger,
// read by `sluice usage`; several processes may have it open.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

struct sqlite3;

namespace sluice::gateway::ai {

// Names that somebody else keeps.
struct UsageName {
  std::string_view day, key, team, provider, model;
};

struct UsageKey {
  std::string day;  // "2026-11-29", UTC
  std::string key;  // names; "": none
  std::string team;
  std::string provider;
  std::string model;  // as the provider calls it
  auto operator<=>(const UsageKey&) const = default;
  operator UsageName() const { return {day, key, team, provider, model}; }
};

struct UsageOrder {
  using is_transparent = void;
  template <typename A, typename B>
  bool operator()(const A& a, const B& b) const {
    return parts(a) < parts(b);
  }
  static std::array<std::string_view, 5> parts(const UsageName& of) {
    return {of.day, of.key, of.team, of.provider, of.model};
  }
};

struct UsageCounts {
  std::string owner = {};  // the last one
  std::int64_t requests = 0;
  std::int64_t errors = 0;
  std::int64_t cache_hits = 0;
  std::int64_t unpriced = 0;  // requests that nobody knew a price of
  std::int64_t input = 0;     // tokens, each once
  std::int64_t cache_read = 0;
  std::int64_t cache_write = 0;
  std::int64_t output = 0;  // with reasoning
  std::int64_t reasoning = 0;
  std::int64_t micros = 0;  // millionths of a US dollar

  void operator+=(const UsageCounts& other);
};

// By account and the period's begin, in Unix time.
using SpentSums = std::map<std::pair<std::string, std::int64_t>, std::int64_t>;

struct UsageBatch {
  std::map<UsageKey, UsageCounts, UsageOrder> rows;
  SpentSums spent;
  bool empty() const { return rows.empty() && spent.empty(); }
};

// One thread at a time. Errors are SQLite's own sentences, with the path.
class UsageFile {
 public:
  // A day has no more rows than this; what is beyond is counted under the model "(others)".
  static constexpr std::int64_t kMostRowsADay = 20'000;

  // Makes the file, readable by its owner alone, if it is not there.
  static std::expected<UsageFile, std::string> open(const std::string& path);
  // Of a file that is there; nothing is changed.
  static std::expected<UsageFile, std::string> open_to_read(const std::string& path);

  std::expected<void, std::string> write(const UsageBatch& batch);  // all of it, or nothing
  // Periods that begin then or later.
  std::expected<SpentSums, std::string> spent(std::int64_t since) const;
  // Whether another connection has written since this was last asked.
  bool changed_by_others();
  std::expected<void, std::string> prune(const std::string& first_day, std::int64_t first_period);

  // Days from `since` to `until`, both included; "": no bound.
  std::expected<std::vector<std::pair<UsageKey, UsageCounts>>, std::string> rows(
      const std::string& since, const std::string& until) const;

 private:
  struct Closer {
    void operator()(sqlite3* handle) const;
  };
  using Handle = std::unique_ptr<sqlite3, Closer>;
  UsageFile(std::string path, Handle handle) : path_(std::move(path)), handle_(std::move(handle)) {}

  static std::expected<UsageFile, std::string> open_as(const std::string& path, int flags);
  std::expected<void, std::string> run(const char* sql) const;
  std::string error() const;
  using Sizes = std::map<std::string, std::int64_t>;  // rows of days
  std::expected<void, std::string> write_row(const UsageKey& key, const UsageCounts& counts,
                                             Sizes& sizes);
  std::int64_t& size_of(const std::string& day, Sizes& sizes) const;

  std::string path_;
  Handle handle_;
  std::int64_t version_ = 0;
};

}  // namespace sluice::gateway::ai
