// Heads as HTTP/2 fields.
#include "gateway/http2/fields.h"

#include <gtest/gtest.h>

namespace sluice::gateway::http2 {
namespace {

std::string_view name_of(const nghttp2_nv& field) {
  return {reinterpret_cast<const char*>(field.name), field.namelen};
}

TEST(Fields, NoneIsLeftOutBehindManyNamesInUpperCase) {
  constexpr std::size_t kMany = 200;
  const std::string long_name(200, 'A');
  FieldList list;
  for (int round = 0; round < 2; ++round) {
    list.clear();
    for (std::size_t i = 0; i < kMany; ++i)
      list.add(long_name, "1");
    list.add("X-Forwarded-For", "192.0.2.7");
    list.add_lines("X-Tenant: one\r\n");
    ASSERT_EQ(list.fields().size(), kMany + 2);
    EXPECT_EQ(name_of(list.fields()[0]), std::string(200, 'a'));
    EXPECT_EQ(name_of(list.fields()[kMany - 1]), std::string(200, 'a'));
    EXPECT_EQ(name_of(list.fields()[kMany]), "x-forwarded-for");
    EXPECT_EQ(name_of(list.fields()[kMany + 1]), "x-tenant");
  }
}

}  // namespace
}  // namespace sluice::gateway::http2
