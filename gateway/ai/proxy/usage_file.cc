#include "gateway/ai/proxy/usage_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <initializer_list>
#include <sqlite3.h>
#include <string_view>
#include <unistd.h>
#include <variant>

#include "kernel/keeper_protocol.h"

namespace sluice::gateway::ai {
namespace {

constexpr int kVersion = 1;  // of the tables
constexpr int kBusyMs = 2000;
constexpr const char* kOthers = "(others)";

constexpr const char* kTables = R"(
CREATE TABLE IF NOT EXISTS usage (
  day TEXT NOT NULL, key TEXT NOT NULL, team TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
  owner TEXT NOT NULL, requests INTEGER NOT NULL, errors INTEGER NOT NULL, cache_hits INTEGER NOT NULL,
  unpriced INTEGER NOT NULL, input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
  output INTEGER NOT NULL, reasoning INTEGER NOT NULL, micros INTEGER NOT NULL,
  PRIMARY KEY (day, key, team, provider, model)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
  account TEXT NOT NULL, period INTEGER NOT NULL, micros INTEGER NOT NULL,
  PRIMARY KEY (account, period)) WITHOUT ROWID;
PRAGMA user_version = 1;
)";

constexpr const char* kUpdate =
    "UPDATE usage SET owner = ?6, requests = requests + ?7, errors = errors + ?8, "
    "cache_hits = cache_hits + ?9, unpriced = unpriced + ?10, input = input + ?11, "
    "cache_read = cache_read + ?12, cache_write = cache_write + ?13, output = output + ?14, "
    "reasoning = reasoning + ?15, micros = micros + ?16 "
    "WHERE day = ?1 AND key = ?2 AND team = ?3 AND provider = ?4 AND model = ?5";
constexpr const char* kInsert =
    "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, "
    "?16)";
constexpr const char* kSpend =
    "INSERT INTO spent VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET micros = micros + ?3";

using Value = std::variant<std::string_view, std::int64_t>;

// A statement for as long as it is run.
class Statement {
 public:
  Statement(sqlite3* handle, const char* sql) {
    sqlite3_prepare_v2(handle, sql, -1, &statement_, nullptr);
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(statement_); }

  Statement& bind(std::initializer_list<Value> values) {
    int at = 0;
    for (const Value& value : values) {
      ++at;
      if (const auto* text = std::get_if<std::string_view>(&value)) {
        sqlite3_bind_text(statement_, at, text->data(), static_cast<int>(text->size()),
                          SQLITE_TRANSIENT);
      } else {
        sqlite3_bind_int64(statement_, at, std::get<std::int64_t>(value));
      }
    }
    return *this;
  }
  int step() { return statement_ != nullptr ? sqlite3_step(statement_) : SQLITE_ERROR; }
  std::int64_t number(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string text(int column) const {
    const auto* bytes = sqlite3_column_text(statement_, column);
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
    return bytes != nullptr ? std::string(reinterpret_cast<const char*>(bytes), size) : "";
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
};

std::int64_t single(sqlite3* handle, const char* sql) {
  Statement statement(handle, sql);
  return statement.step() == SQLITE_ROW ? statement.number(0) : -1;
}

// SQLite would make it readable by whom the umask lets; what belongs to it takes its mode after.
std::expected<void, std::string> make_file(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  const kernel::protocol::OwnedFd fd(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd) return {};
  return std::unexpected(path + ": " + std::strerror(errno));
}

}  // namespace

void UsageCounts::operator+=(const UsageCounts& other) {
  if (!other.owner.empty()) owner = other.owner;
  requests += other.requests;
  errors += other.errors;
  cache_hits += other.cache_hits;
  unpriced += other.unpriced;
  input += other.input;
  cache_read += other.cache_read;
  cache_write += other.cache_write;
  output += other.output;
  reasoning += other.reasoning;
  micros += other.micros;
}

void UsageFile::Closer::operator()(sqlite3* handle) const {
  sqlite3_close_v2(handle);
}

std::string UsageFile::error() const {
  return path_ + ": " + sqlite3_errmsg(handle_.get());
}

std::expected<void, std::string> UsageFile::run(const char* sql) const {
  if (sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return std::unexpected(error());
}

std::expected<UsageFile, std::string> UsageFile::open_as(const std::string& path, int flags) {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &raw, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  UsageFile file(path, Handle(raw));
  if (raw == nullptr) return std::unexpected(path + ": out of memory");
  if (opened != SQLITE_OK) return std::unexpected(file.error());
  sqlite3_busy_timeout(raw, kBusyMs);
  const std::int64_t version = single(raw, "PRAGMA user_version");
  if (version < 0) return std::unexpected(file.error());
  if (version > kVersion)
    return std::unexpected(path + ": was written by a newer sluice; take that one, or another file");
  return file;
}

std::expected<UsageFile, std::string> UsageFile::open(const std::string& path) {
  if (auto made = make_file(path); !made) return std::unexpected(made.error());
  auto file = open_as(path, SQLITE_OPEN_READWRITE);
  if (!file) return file;
  // Readers and another gateway's writer do not wait for this one; what a power cut takes is the
  // last second, never the file.
  for (const char* sql : {"PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", kTables})
    if (auto done = file->run(sql); !done) return std::unexpected(done.error());
  return file;
}

std::expected<UsageFile, std::string> UsageFile::open_to_read(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0)
    return std::unexpected(path + ": " + std::strerror(errno) +
                           "; a gateway with `ai` makes it at its first call");
  auto file = open_as(path, SQLITE_OPEN_READWRITE);  // of its shared memory
  return file ? std::move(file) : open_as(path, SQLITE_OPEN_READONLY);
}

// Counted once for all of a batch.
std::int64_t& UsageFile::size_of(const std::string& day, Sizes& sizes) const {
  const auto known = sizes.find(day);
  if (known != sizes.end()) return known->second;
  Statement count(handle_.get(), "SELECT count(*) FROM usage WHERE day = ?1");
  count.bind({day});
  return sizes[day] = count.step() == SQLITE_ROW ? count.number(0) : 0;
}

std::expected<void, std::string> UsageFile::write_row(const UsageKey& key,
                                                      const UsageCounts& counts, Sizes& sizes) {
  const auto run = [&](const char* sql, std::string_view model) {
    Statement statement(handle_.get(), sql);
    statement.bind({key.day, key.key, key.team, key.provider, model, counts.owner, counts.requests,
                    counts.errors, counts.cache_hits, counts.unpriced, counts.input,
                    counts.cache_read, counts.cache_write, counts.output, counts.reasoning,
                    counts.micros});
    return statement.step() == SQLITE_DONE;
  };
  if (!run(kUpdate, key.model)) return std::unexpected(error());
  if (sqlite3_changes(handle_.get()) > 0) return {};
  std::string_view model = key.model;
  std::int64_t& size = size_of(key.day, sizes);
  if (size >= kMostRowsADay) {
    model = kOthers;
    if (!run(kUpdate, model)) return std::unexpected(error());
    if (sqlite3_changes(handle_.get()) > 0) return {};
  }
  if (!run(kInsert, model)) return std::unexpected(error());
  ++size;
  return {};
}

std::expected<void, std::string> UsageFile::write(const UsageBatch& batch) {
  if (auto begun = run("BEGIN IMMEDIATE"); !begun) return begun;
  Sizes sizes;
  const auto all = [&]() -> std::expected<void, std::string> {
    for (const auto& [key, counts] : batch.rows)
      if (auto done = write_row(key, counts, sizes); !done) return done;
    for (const auto& [of, micros] : batch.spent) {
      Statement spend(handle_.get(), kSpend);
      if (spend.bind({of.first, of.second, micros}).step() != SQLITE_DONE)
        return std::unexpected(error());
    }
    return run("COMMIT");
  };
  auto done = all();
  if (!done) (void)run("ROLLBACK");
  return done;
}

std::expected<SpentSums, std::string> UsageFile::spent(std::int64_t since) const {
  Statement read(handle_.get(), "SELECT account, period, micros FROM spent WHERE period >= ?1");
  read.bind({since});
  SpentSums sums;
  int step = SQLITE_ROW;
  while ((step = read.step()) == SQLITE_ROW)
    sums[{read.text(0), read.number(1)}] = read.number(2);
  if (step != SQLITE_DONE) return std::unexpected(error());
  return sums;
}

bool UsageFile::changed_by_others() {
  const std::int64_t version = single(handle_.get(), "PRAGMA data_version");
  return std::exchange(version_, version) != version;
}

std::expected<void, std::string> UsageFile::prune(const std::string& first_day,
                                                  std::int64_t first_period) {
  Statement days(handle_.get(), "DELETE FROM usage WHERE day < ?1");
  Statement periods(handle_.get(), "DELETE FROM spent WHERE period < ?1");
  if (days.bind({first_day}).step() != SQLITE_DONE) return std::unexpected(error());
  if (periods.bind({first_period}).step() != SQLITE_DONE) return std::unexpected(error());
  return {};
}

std::expected<std::vector<std::pair<UsageKey, UsageCounts>>, std::string> UsageFile::rows(
    const std::string& since, const std::string& until) const {
  Statement read(handle_.get(),
                 "SELECT day, key, team, provider, model, owner, requests, errors, cache_hits, "
                 "unpriced, input, cache_read, cache_write, output, reasoning, micros FROM usage "
                 "WHERE day >= ?1 AND (?2 = '' OR day <= ?2) ORDER BY day, key, model, provider");
  read.bind({since, until});
  std::vector<std::pair<UsageKey, UsageCounts>> out;
  int step = SQLITE_ROW;
  while ((step = read.step()) == SQLITE_ROW) {
    out.emplace_back(UsageKey{read.text(0), read.text(1), read.text(2), read.text(3), read.text(4)},
                     UsageCounts{.owner = read.text(5),
                                 .requests = read.number(6),
                                 .errors = read.number(7),
                                 .cache_hits = read.number(8),
                                 .unpriced = read.number(9),
                                 .input = read.number(10),
                                 .cache_read = read.number(11),
                                 .cache_write = read.number(12),
                                 .output = read.number(13),
                                 .reasoning = read.number(14),
                                 .micros = read.number(15)});
  }
  if (step != SQLITE_DONE) return std::unexpected(error());
  return out;
}

}  // namespace sluice::gateway::ai
