#include "gateway/upstream/kept_answers.h"

#include <gtest/gtest.h>

namespace sluice::gateway {
namespace {

policy::Upstream upstream(const std::string& dns) {
  policy::Upstream out;
  out.name = "shop";
  out.endpoints.push_back({.address = {}, .dns = dns, .port = 80, .where = {}});
  return out;
}

Resolution answer(std::string_view address) {
  return {.endpoints = {{.address = *policy::SocketAddress::parse(address)}}, .known = true};
}

class KeptAnswersTest : public testing::Test {
 protected:
  Resolution resolve(KeptAnswers& answers, Resolution found) {
    return answers.resolve(shop_, shop_.endpoints[0], std::move(found));
  }

  policy::Upstream shop_ = upstream("api.internal");
  KeptAnswers before_;
  KeptAnswers next_;
};

TEST_F(KeptAnswersTest, TheNextGatewayKnowsWhatTheOneBeforeDid) {
  EXPECT_TRUE(resolve(before_, {}).endpoints.empty());
  EXPECT_EQ(resolve(before_, answer("10.0.0.1:80")).endpoints, answer("10.0.0.1:80").endpoints);
  next_.take_over(before_.names());
  EXPECT_EQ(resolve(next_, {}).endpoints, answer("10.0.0.1:80").endpoints);
  EXPECT_EQ(next_.names(), before_.names());  // for the one after it, though nobody has answered
}

TEST_F(KeptAnswersTest, AnAnswerTakesItsPlace) {
  resolve(before_, answer("10.0.0.1:80"));
  next_.take_over(before_.names());
  EXPECT_EQ(resolve(next_, answer("10.0.0.2:80")).endpoints, answer("10.0.0.2:80").endpoints);
  EXPECT_TRUE(resolve(next_, {.endpoints = {}, .known = true}).endpoints.empty());
  EXPECT_TRUE(next_.names().empty()) << "there is nothing behind it";
}

// Another server, another timeout: the question is a new one, the name is not.
TEST_F(KeptAnswersTest, WhatIsAskedAnewHasItsLastAnswerUntilThen) {
  resolve(next_, answer("10.0.0.1:80"));
  EXPECT_EQ(resolve(next_, {}).endpoints, answer("10.0.0.1:80").endpoints);
  Resolution half = answer("10.0.0.2:80");  // of A and AAAA one
  half.known = false;
  EXPECT_EQ(resolve(next_, half).endpoints, half.endpoints);
}

TEST_F(KeptAnswersTest, NamesThatAreGoneAreForgotten) {
  resolve(before_, answer("10.0.0.1:80"));
  before_.follow({shop_});
  EXPECT_EQ(before_.names().size(), 1U);
  before_.follow({upstream("other.internal")});
  EXPECT_TRUE(before_.names().empty());
}

}  // namespace
}  // namespace sluice::gateway
