#include "gateway/upstream/success_rate.h"

#include <gmock/gmock.h>

namespace sluice::gateway {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SuccessRate, NamesWhoFailsMuchMoreThanTheOthers) {
  std::vector<RequestVolume> volumes(10, {.succeeded = 990, .total = 1000});
  volumes[3] = {.succeeded = 700, .total = 1000};
  EXPECT_THAT(success_rate_outliers(volumes, {}), ElementsAre(3));
}

TEST(SuccessRate, NobodyWhereAllFailAlike) {
  const std::vector<RequestVolume> volumes(10, {.succeeded = 300, .total = 1000});
  EXPECT_THAT(success_rate_outliers(volumes, {}), IsEmpty());
}

TEST(SuccessRate, TooFewRequestsSayNothing) {
  std::vector<RequestVolume> volumes(10, {.succeeded = 990, .total = 1000});
  volumes[3] = {.succeeded = 0, .total = 99};
  EXPECT_THAT(success_rate_outliers(volumes, {}), IsEmpty());
}

TEST(SuccessRate, TooFewEndpointsSayNothing) {
  std::vector<RequestVolume> volumes(4, {.succeeded = 990, .total = 1000});
  volumes[3] = {.succeeded = 0, .total = 1000};
  EXPECT_THAT(success_rate_outliers(volumes, {}), IsEmpty());
  EXPECT_THAT(success_rate_outliers(volumes, {.minimum_hosts = 4, .stdev_factor = 1.5}),
              ElementsAre(3));
}

}  // namespace
}  // namespace sluice::gateway
