// The policy's source, its watcher, the last good one.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>

#include "gateway/control/last_good.h"
#include "gateway/control/policy_source.h"
#include "gateway/control/policy_watcher.h"
#include "tests/unit/control/scratch_directory.h"

namespace sluice::gateway {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

TEST(PolicySource, ReadsAFile) {
  const ScratchDirectory scratch;
  const std::string path = scratch.write("p.yaml", "version: 1\n");
  const auto files = read_policy(path);
  ASSERT_TRUE(files);
  ASSERT_EQ(files->size(), 1U);
  EXPECT_EQ((*files)[0].name, path);
  EXPECT_EQ((*files)[0].text, "version: 1\n");
}

TEST(PolicySource, ReadsADirectoryInOrderAndOnlyItsYaml) {
  const ScratchDirectory scratch;
  scratch.write("20-b.yaml", "b");
  scratch.write("10-a.yml", "a");
  scratch.write("README.md", "no");
  scratch.write(".hidden.yaml", "no");
  scratch.write("30-c.yaml~", "no");
  const auto files = read_policy(scratch.path());
  ASSERT_TRUE(files);
  ASSERT_EQ(files->size(), 2U);
  EXPECT_EQ((*files)[0].text, "a");
  EXPECT_EQ((*files)[1].text, "b");
}

TEST(PolicySource, ReadsAConfigMapMount) {
  const ScratchDirectory scratch;
  scratch.write("..2026_01/policy.yaml", "first");
  fs::create_directory_symlink("..2026_01", scratch / "..data");
  fs::create_symlink("..data/policy.yaml", scratch / "policy.yaml");
  const auto files = read_policy(scratch.path());
  ASSERT_TRUE(files) << files.error();
  ASSERT_EQ(files->size(), 1U);
  EXPECT_EQ((*files)[0].text, "first");
}

TEST(PolicySource, SaysWhatItCannotRead) {
  const ScratchDirectory scratch;
  EXPECT_THAT(read_policy(scratch / "none.yaml").error(), testing::HasSubstr("No such file"));
  EXPECT_THAT(read_policy(scratch.path()).error(), testing::HasSubstr("no *.yaml file"));
  ASSERT_EQ(::mkfifo((scratch / "pipe.yaml").c_str(), 0600), 0);
  EXPECT_THAT(read_policy(scratch / "pipe.yaml").error(), testing::HasSubstr("not a regular file"));
}

TEST(PolicySource, RefusesWhatIsTooLong) {
  const ScratchDirectory scratch;
  const std::string path = scratch.write("big.yaml", "");
  fs::resize_file(path, kMaxPolicyBytes + 1);
  EXPECT_THAT(read_policy(path).error(), testing::HasSubstr("longer than"));
}

// Runs the loop until a change has been told; false after a generous while.
class PolicyWatcherTest : public testing::Test {
 protected:
  bool told() {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (changes_ == 0 && std::chrono::steady_clock::now() < end)
      io_.run_one_for(100ms);
    const bool any = changes_ > 0;
    // What belongs to the same change may still come.
    io_.run_for(200ms);
    changes_ = 0;
    return any;
  }
  std::unique_ptr<PolicyWatcher> watch(const std::string& path) {
    return std::make_unique<PolicyWatcher>(io_, path, [this] { ++changes_; });
  }

  ScratchDirectory scratch_;
  boost::asio::io_context io_;
  int changes_ = 0;
};

TEST_F(PolicyWatcherTest, AFileWrittenInPlace) {
  const std::string path = scratch_.write("p.yaml", "1");
  const auto watcher = watch(path);
  scratch_.write("p.yaml", "2");
  EXPECT_TRUE(told());
  scratch_.write("p.yaml", "3");
  EXPECT_TRUE(told());
}

TEST_F(PolicyWatcherTest, AnEditorsRenameOverTwice) {
  const std::string path = scratch_.write("p.yaml", "1");
  const auto watcher = watch(path);
  for (const char* text : {"2", "3"}) {
    fs::rename(scratch_.write(".p.yaml.swp", text), path);
    EXPECT_TRUE(told()) << text;
  }
}

TEST_F(PolicyWatcherTest, AFileGoneAndBack) {
  const std::string path = scratch_.write("p.yaml", "1");
  const auto watcher = watch(path);
  fs::remove(path);
  EXPECT_TRUE(told());
  scratch_.write("p.yaml", "2");
  EXPECT_TRUE(told());
}

TEST_F(PolicyWatcherTest, ADirectoryThatComesLater) {
  const auto watcher = watch(scratch_ / "conf.d");
  scratch_.write("conf.d/a.yaml", "1");
  EXPECT_TRUE(told());
  scratch_.write("conf.d/b.yaml", "2");
  EXPECT_TRUE(told());
}

TEST_F(PolicyWatcherTest, AConfigMapsSwap) {
  scratch_.write("..1/policy.yaml", "1");
  fs::create_directory_symlink("..1", scratch_ / "..data");
  fs::create_symlink("..data/policy.yaml", scratch_ / "policy.yaml");
  const auto directory = watch(scratch_.path());
  for (const char* version : {"..2", "..3"}) {
    scratch_.write(std::string(version) + "/policy.yaml", version);
    fs::create_directory_symlink(version, scratch_ / "..data_tmp");
    fs::rename(scratch_ / "..data_tmp", scratch_ / "..data");
    EXPECT_TRUE(told()) << version;
    EXPECT_EQ(read_policy(scratch_.path())->front().text, version);
  }
}

TEST_F(PolicyWatcherTest, ASymlinkedDirectoryOfThePath) {
  for (const char* version : {"v1", "v2", "v3"})
    scratch_.write(std::string(version) + "/p.yaml", version);
  fs::create_directory_symlink("v1", scratch_ / "current");
  const auto watcher = watch(scratch_ / "current/p.yaml");
  for (const char* version : {"v2", "v3"}) {
    fs::create_directory_symlink(version, scratch_ / "next");
    fs::rename(scratch_ / "next", scratch_ / "current");
    EXPECT_TRUE(told()) << version;
  }
}

TEST_F(PolicyWatcherTest, AFileBehindASymlinkElsewhere) {
  scratch_.write("real/p.yaml", "1");
  fs::create_directory(scratch_ / "etc");
  fs::create_symlink(scratch_ / "real/p.yaml", scratch_ / "etc/p.yaml");
  const auto watcher = watch(scratch_ / "etc/p.yaml");
  fs::rename(scratch_.write("real/new", "2"), scratch_ / "real/p.yaml");
  EXPECT_TRUE(told());
}

TEST(LastGoodPolicy, IsKeptWhole) {
  const ScratchDirectory scratch;
  const LastGood store(scratch / "a/state");
  const std::vector<policy::PolicyFile> files{{"a.yaml", "version: 1\n"},
                                              {"b.yaml", std::string("\0\n", 2)}};
  ASSERT_TRUE(store.save(files));
  ASSERT_TRUE(store.save(files));
  const auto loaded = store.load();
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ((*loaded)[1].name, "b.yaml");
  EXPECT_EQ((*loaded)[1].text, files[1].text);
  struct stat status{};
  ASSERT_EQ(::stat(store.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST(LastGoodPolicy, DamageIsNoticed) {
  const std::string bytes = bundle_policy({{"a.yaml", "version: 1\n"}});
  EXPECT_TRUE(unbundle_policy(bytes));
  EXPECT_FALSE(unbundle_policy(""));
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(unbundle_policy(bytes.substr(0, size))) << size;
  EXPECT_FALSE(unbundle_policy(bytes + "x"));
}

}  // namespace
}  // namespace sluice::gateway
