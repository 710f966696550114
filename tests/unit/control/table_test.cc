#include "gateway/main/table.h"

#include <gmock/gmock.h>

namespace sluice::control {
namespace {

using testing::HasSubstr;
using testing::internal::CaptureStdout;
using testing::internal::GetCapturedStdout;

// Model names, reasons of bans and of members are what others have sent.
TEST(Table, WhatWouldSpeakToTheTerminalIsNotPrinted) {
  Table table({"MODEL", "N"});
  table.add({"x\x1b[2J\r\ny\x7f", "1"});
  table.add(
      {"c1 \xc2\x9b"
       "31m",
       "2"});
  table.add({"gr\xc3\xbc\xc3\x9f \xc2\xa0\xe2\x82\x9b", "3"});
  CaptureStdout();
  table.print();
  const std::string printed = GetCapturedStdout();
  EXPECT_THAT(printed, HasSubstr("x?[2J??y?"));
  EXPECT_THAT(printed, HasSubstr("c1 ??31m"));
  EXPECT_THAT(printed, HasSubstr("gr\xc3\xbc\xc3\x9f \xc2\xa0\xe2\x82\x9b"));
}

}  // namespace
}  // namespace sluice::control
