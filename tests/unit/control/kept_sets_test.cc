// A bad file of a set keeps its text of before, and nothing else does.
#include "gateway/main/kept_sets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

namespace sluice::control {
namespace {

using Kind = policy::PolicyFile::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What lies on disk, and what runs.
class KeptSetsTest : public ::testing::Test {
 protected:
  void run(const std::string& text) {
    auto compiled = compile(text);
    ASSERT_TRUE(compiled) << to_text(compiled.error());
    running_ = std::move(*compiled);
  }

  std::expected<CompiledPolicy, policy::Diagnostics> compile(const std::string& text) {
    return compile_keeping_sets(
        {{"p.yaml", "version: 1\n" + text}}, running_.files, [this](const std::string& path) {
          const auto found = disk_.find(path);
          return found == disk_.end()
                     ? std::expected<std::string, std::string>(std::unexpect, "it is gone")
                     : found->second;
        });
  }

  static std::vector<std::size_t> sizes(const CompiledPolicy& policy) {
    std::vector<std::size_t> out;
    for (const auto& set : policy.config().sets)
      out.push_back(set.members->size());
    return out;
  }

  std::map<std::string, std::string> disk_{{"/a", "192.0.2.1\n"}, {"/b", "192.0.2.2\n"}};
  CompiledPolicy running_;
};

constexpr const char* kTwo = "sets:\n  a: { file: /a }\n  b: { file: /b }\n";

TEST_F(KeptSetsTest, OneThatHasErrorsAndOneThatIsGoneAreKeptAndTold) {
  run(kTwo);
  EXPECT_TRUE(running_.stale.empty());
  disk_ = {{"/a", "192.0.2.1\n192.0.2.3\nx\ny\nz\n"}};
  const auto next = compile(kTwo);
  ASSERT_TRUE(next) << to_text(next.error());
  EXPECT_THAT(sizes(*next), ElementsAre(1U, 1U));
  EXPECT_THAT(
      stale_warnings(*next),
      ElementsAre(StartsWith("/a:3:1: sets.a keeps what it had: `x` is not an address or prefix, "
                             "and 2 more ("),
                  "p.yaml:4:14: sets.b keeps what it had: cannot read /b: it is gone"));
  EXPECT_EQ(next->warnings.size(), 2U);
  EXPECT_EQ(next->files[1].text, "192.0.2.1\n");  // what the gateway and the next start get
  EXPECT_EQ(stale_samples(*next)[1].value, 1);
  disk_["/b"] = "192.0.2.2\n192.0.2.4\n";
  EXPECT_THAT(sizes(*compile(kTwo)), ElementsAre(1U, 2U));
}

TEST_F(KeptSetsTest, MoreErrorsThanAreToldAtATimeHoldUpNothing) {
  std::string text = "sets:\n";
  std::string wrong;
  for (int i = 0; i < 30; ++i)
    wrong += "wrong\n";
  for (int i = 10; i < 40; ++i) {
    const std::string path = "/" + std::to_string(i);
    text += "  s" + path.substr(1) + ": { file: " + path + " }\n";
    disk_[path] = "192.0.2.1\n";
  }
  run(text);
  for (auto& [path, list] : disk_)
    list = path == "/39" ? "192.0.2.1\n192.0.2.3\n" : wrong;
  const auto next = compile(text);
  ASSERT_TRUE(next) << to_text(next.error());
  EXPECT_EQ(next->stale.size(), 29U);
  EXPECT_EQ(sizes(*next).back(), 2U);
}

// One text for both.
TEST_F(KeptSetsTest, AFileOfTwoSetsIsKeptForBoth) {
  const std::string text = "sets:\n  a: { file: /a, format: netset }\n  b: { file: /a }\n";
  run(text);
  disk_["/a"] = "192.0.2.0/24\n198.51.100.1/24\n";  // bits that netset clears
  const auto next = compile(text);
  ASSERT_TRUE(next) << to_text(next.error());
  EXPECT_THAT(sizes(*next), ElementsAre(1U, 1U));
  EXPECT_EQ(next->stale.size(), 2U);
}

TEST_F(KeptSetsTest, WhereThatDoesNotMendItAllIsToldAsItLies) {
  run(kTwo);
  disk_ = {{"/a", "x\n"}};
  const auto refused = compile(std::string(kTwo) + "nonsense: 1\n");
  ASSERT_FALSE(refused);
  EXPECT_THAT(to_text(refused.error()), HasSubstr("unknown key"));
  EXPECT_THAT(to_text(refused.error()), HasSubstr("/a:1:1: error: `x`"));
  EXPECT_THAT(to_text(refused.error()), HasSubstr("cannot read /b: it is gone"));
  // It has nothing to keep, and what was good is not in another format.
  EXPECT_FALSE(compile("sets:\n  new: { file: /c }\n"));
  disk_["/a"] = "198.51.100.1/24\n";
  run("sets:\n  a: { file: /a, format: netset }\n");
  disk_["/a"] = "x\n";
  const auto other = compile("sets:\n  a: { file: /a }\n");
  ASSERT_FALSE(other);
  EXPECT_THAT(to_text(other.error()), StartsWith("/a:1:1: error: `x`"));
}

}  // namespace
}  // namespace sluice::control
