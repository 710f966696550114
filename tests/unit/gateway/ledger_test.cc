#include "gateway/ai/proxy/ledger.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sluice::gateway::ai {
namespace {

constexpr std::int64_t kForever = 1'000'000L * 86'400;

class LedgerTest : public ::testing::Test {
 protected:
  LedgerTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-ledger-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~LedgerTest() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name = "usage.db") const { return directory_ + "/" + name; }
  static UsageKey key(const std::string& model) {
    return {.day = "2025-11-29", .key = "alice", .team = "red", .provider = "p", .model = model};
  }
  std::vector<std::pair<UsageKey, UsageCounts>> rows() const {
    const auto file = UsageFile::open_to_read(path());
    return file ? file->rows("", "").value() : std::vector<std::pair<UsageKey, UsageCounts>>{};
  }

  std::string directory_;
};

TEST_F(LedgerTest, KeepsWhatWasAddedOverARestart) {
  {
    Ledger ledger;
    ledger.configure(path(), kForever, {});
    ledger.add(key("a"), {.owner = "Alice", .requests = 1, .input = 10, .output = 3, .micros = 7});
    ledger.flush();
    ledger.add(key("a"), {.requests = 1, .errors = 1});
    ledger.add(key("b"), {.requests = 1});
  }  // what is left is written
  const auto kept = rows();
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].first, key("a"));
  EXPECT_EQ(kept[0].second.requests, 2);
  EXPECT_EQ(kept[0].second.errors, 1);
  EXPECT_EQ(kept[0].second.micros, 7);
  struct stat status{};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_EQ(::stat((path() + "-wal").c_str(), &status) == 0 ? status.st_mode & 0077U : 0U, 0U);
}

TEST_F(LedgerTest, WhatThisProcessHasSpentIsNotCountedTwice) {
  const std::int64_t now = ::time(nullptr);
  Ledger first;
  first.configure(path(), kForever, {});
  first.spend("a", now, 100);
  first.flush();
  EXPECT_EQ(first.elsewhere("a", now), 0);
  bool told = false;
  Ledger second;  // another gateway, that takes over
  second.configure(path(), kForever, [&] { told = true; });
  EXPECT_EQ(second.elsewhere("a", now), 100);
  first.spend("a", now, 20);
  first.flush();
  second.spend("a", now, 5);
  second.flush();
  EXPECT_TRUE(told);
  EXPECT_EQ(second.elsewhere("a", now), 120);
  first.flush();
  EXPECT_EQ(first.elsewhere("a", now), 5);
}

TEST_F(LedgerTest, WhatCannotBeWrittenWaits) {
  Ledger ledger;
  std::filesystem::create_directory(path());  // in the file's place
  ledger.configure(path(), kForever, {});
  ledger.add(key("a"), {.requests = 1});
  ledger.spend("a", ::time(nullptr), 1);
  ledger.flush();
  EXPECT_FALSE(ledger.stats().writable);
  EXPECT_GE(ledger.stats().failures, 1U);
  EXPECT_EQ(ledger.stats().waiting, 2U);
  std::filesystem::remove(path());
  ledger.flush();
  EXPECT_TRUE(ledger.stats().writable);
  EXPECT_EQ(rows().size(), 1U);
}

TEST_F(LedgerTest, AFileThatIsNoneStaysAsItIs) {
  std::ofstream(path()) << "not a database, and long enough to be told from an empty file";
  {
    Ledger ledger;
    ledger.configure(path(), kForever, {});
    ledger.add(key("a"), {.requests = 1});
    ledger.flush();
    EXPECT_FALSE(ledger.stats().writable);
  }
  std::string text;
  std::getline(std::ifstream(path()), text);
  EXPECT_THAT(text, ::testing::StartsWith("not a database"));
}

TEST_F(LedgerTest, OldDaysGo) {
  Ledger ledger;
  ledger.configure(path(), kForever, {});
  ledger.add(key("a"), {.requests = 1});
  ledger.flush();
  EXPECT_EQ(rows().size(), 1U);
  Ledger shorter;
  shorter.configure(path(), 86'400, {});
  EXPECT_EQ(rows().size(), 0U);
}

TEST_F(LedgerTest, ADayHasNoMoreRowsThanTheMost) {
  auto file = UsageFile::open(path());
  ASSERT_TRUE(file);
  UsageBatch batch;
  for (std::int64_t i = 0; i < UsageFile::kMostRowsADay; ++i)
    batch.rows[key("m" + std::to_string(i))] = {.requests = 1};
  ASSERT_TRUE(file->write(batch));
  UsageBatch more;
  more.rows[key("x")] = {.requests = 1};
  more.rows[key("y")] = {.requests = 1};
  ASSERT_TRUE(file->write(more));
  const auto kept = file->rows("", "");
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->size(), static_cast<std::size_t>(UsageFile::kMostRowsADay) + 1);
  EXPECT_EQ(kept->front().first.model, "(others)");
  EXPECT_EQ(kept->front().second.requests, 2);
}

}  // namespace
}  // namespace sluice::gateway::ai
