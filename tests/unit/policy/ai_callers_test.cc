#include "policy/ai_callers.h"

#include <gmock/gmock.h>

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Intercept leads(std::vector<std::string> cgroups, std::string listener) {
  Intercept out;
  out.cgroups = std::move(cgroups);
  out.listener = std::move(listener);
  return out;
}

TEST(CgroupListeners, AreThoseOfACgroupAndWhatIsBelowIt) {
  const std::vector output{leads({"/app"}, "a"), leads({"/app/x", "/app/y"}, "b"),
                           leads({"/application"}, "c"), leads({"/app", "/other"}, "d"),
                           leads({}, "e")};
  const std::vector<std::string> app{"/app"};
  const auto found = listeners_of(app, output);
  EXPECT_THAT(found.names, ElementsAre("a", "b"));
  EXPECT_EQ(found.others, nullptr);
  EXPECT_THAT(listeners_of({}, output).names, IsEmpty());
  const std::vector<std::string> part{"/app/x"};
  EXPECT_THAT(listeners_of(part, output).names, IsEmpty()) << "others of /app come by them, too";
}

TEST(CgroupListeners, AreNotThoseThatOthersComeByAsWell) {
  for (const auto& other : {leads({"/other"}, "a"), leads({}, "a")}) {
    for (const bool first : {true, false}) {
      std::vector output{leads({"/app"}, "a"), leads({"/app"}, "b")};
      const auto added = output.insert(first ? output.begin() : output.end(), other);
      const std::vector<std::string> app{"/app"};
      const auto found = listeners_of(app, output);
      EXPECT_THAT(found.names, ElementsAre("b"));
      EXPECT_EQ(found.others, &*added);
    }
  }
}

}  // namespace
}  // namespace sluice::policy
