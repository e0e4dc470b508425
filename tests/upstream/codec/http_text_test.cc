#include "upstream/codec/http_text.h"

#include "gtest/gtest.h"

namespace hotline::upstream {
namespace {

using std::chrono::seconds;

TEST(TrimmedTest, LeavesOutBlanksAtBothEndsAndNothingElse) {
  EXPECT_EQ(Trimmed(""), "");
  EXPECT_EQ(Trimmed(" \t "), "");
  EXPECT_EQ(Trimmed("a"), "a");
  EXPECT_EQ(Trimmed(" \ta  b\t"), "a  b");
  EXPECT_EQ(Trimmed("\xa0"
                    "a\v"),
            "\xa0"
            "a\v");
}

TEST(KeepAliveTimeoutTest, IsReadWhereverItStands) {
  EXPECT_EQ(KeepAliveTimeout("timeout=5"), seconds(5));
  EXPECT_EQ(KeepAliveTimeout("timeout=5, max=100"), seconds(5));
  EXPECT_EQ(KeepAliveTimeout("max=100,timeout=60"), seconds(60));
  EXPECT_EQ(KeepAliveTimeout(" Timeout=15 "), seconds(15));
  EXPECT_EQ(KeepAliveTimeout("max=1, \tTIMEOUT=7\t,x=y"), seconds(7));
}

TEST(KeepAliveTimeoutTest, IsZeroWhereItMakesNoSense) {
  for (const char* value :
       {"", ",", "timeout", "timeout=", "timeout=x", "timeout=5s", "timeout=-5",
        "timeout=0", "timeout=5.5", "timeout= 5", "atimeout=5", "max=5",
        "timeout=99999999999999999999", "timeout=+5", ",,, ,"}) {
    EXPECT_EQ(KeepAliveTimeout(value), seconds(0)) << value;
  }
}

TEST(KeepAliveTimeoutTest, IsADayAtMost) {
  EXPECT_EQ(KeepAliveTimeout("timeout=86400"), seconds(86400));
  EXPECT_EQ(KeepAliveTimeout("timeout=86401"), seconds(86400));
}

}  // namespace
}  // namespace hotline::upstream
