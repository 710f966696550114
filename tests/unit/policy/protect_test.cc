#include "policy/protect.h"

#include <gtest/gtest.h>

namespace sluice::policy {
namespace {

RequestView from(std::string_view client) {
  RequestView view;
  view.client = *IpAddress::parse(client);
  return view;
}

TEST(Protect, KeepsLimitsOffWhoIsNamed) {
  Protect protect;
  protect.from.push_back(
      {.cidr = *Prefix::parse("10.9.0.0/24"), .to_ports = {}, .interfaces = {}, .where = {}});
  EXPECT_TRUE(is_protected(protect, from("10.9.0.7")));
  EXPECT_FALSE(is_protected(protect, from("10.9.1.7")));
  RequestView claimed = from("10.9.0.7");
  claimed.client_claimed = true;  // by a header, which anybody may send through the proxy
  EXPECT_FALSE(is_protected(protect, claimed));
}

TEST(Protect, EntriesOfPacketsSayNothingOfLimits) {
  Protect protect;
  protect.from.push_back({.cidr = *Prefix::parse("10.9.0.0/24"),
                          .to_ports = {{22, 22}},
                          .interfaces = {},
                          .where = {}});
  protect.from.push_back(
      {.cidr = *Prefix::parse("10.9.0.0/24"), .to_ports = {}, .interfaces = {"eth0"}, .where = {}});
  EXPECT_FALSE(is_protected(protect, from("10.9.0.7")));
}

}  // namespace
}  // namespace sluice::policy
