#include "gateway/tls/material.h"

#include <gtest/gtest.h>

namespace sluice::gateway::tls {
namespace {

SecretPtr secret(std::string_view text) {
  return std::make_shared<Secret>(text);
}

TEST(Material, ArrivesAsItWasSent) {
  Material sent;
  sent.pairs.emplace(PairName{"a.pem", "a.key"}, KeyPair{secret("cert"), secret("key")});
  const SecretPtr both = secret("both");
  sent.pairs.emplace(PairName{"b.pem", ""}, KeyPair{both, both});
  sent.authorities.emplace("system", secret("authorities"));
  sent.ticket_keys = {secret("first"), secret("second")};
  const Secret bytes = serialize(sent);
  const auto got = deserialize(bytes.view());
  ASSERT_TRUE(got);
  ASSERT_NE((*got)->find("a.pem", "a.key"), nullptr);
  EXPECT_EQ((*got)->find("a.pem", "a.key")->key->view(), "key");
  EXPECT_EQ((*got)->find("b.pem", "")->key->view(), "both");
  EXPECT_EQ((*got)->authority("system")->view(), "authorities");
  EXPECT_EQ((*got)->authority("other"), nullptr);
  ASSERT_EQ((*got)->ticket_keys.size(), 2U);
  EXPECT_EQ((*got)->ticket_keys[1]->view(), "second");
}

TEST(Material, CutShortIsRefused) {
  Material sent;
  sent.pairs.emplace(PairName{"a.pem", "a.key"}, KeyPair{secret("cert"), secret("key")});
  const Secret bytes = serialize(sent);
  const std::size_t empty = serialize(Material{}).size();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    if (size != empty) {
      EXPECT_FALSE(deserialize(bytes.view().substr(0, size))) << size;
    }
  }
}

}  // namespace
}  // namespace sluice::gateway::tls
