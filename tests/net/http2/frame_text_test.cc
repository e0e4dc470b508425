#include "tests/net/http2/frame_text.h"

#include <nghttp2/nghttp2.h>

#include <string>

#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace hotline::net {
namespace {

TEST(FrameTextTest, TypesFlagsAndPartsBecomeFrames) {
  EXPECT_EQ(ParseFrames("HEADERS(1 end_stream end_headers [POST; te=\\073])"),
            Post(1, kEndStream, {{"te", ";"}}));
  EXPECT_EQ(ParseFrames("CONTINUATION(3 [200; a=])"),
            Frame(NGHTTP2_CONTINUATION, kNoFlag, 3,
                  Block({{":status", "200"}, {"a", ""}})));
  EXPECT_EQ(ParseFrames("\"x(\" DATA(5 padded \"\\001\\\")\" \"\\000\")"),
            "x(" + Data(5, std::string("\1\")\0", 4), kPadded));
  EXPECT_EQ(ParseFrames("SETTINGS(0 4=65535 2=0 ) RST_STREAM(1 CANCEL)"),
            Settings({{4, 65535}, {2, 0}}) + Rst(1, NGHTTP2_CANCEL));
  EXPECT_EQ(ParseFrames("GOAWAY(0 2147483647 0 \"bye\")"),
            GoAway(0x7fffffff, 0, "bye"));
  EXPECT_EQ(ParseFrames("0xfe(0 flags=0xff)"), Frame(0xfe, 0xff, 0));
}

TEST(FrameTextTest, WhatIsNoFrameFailsTheTest) {
  for (const std::string text :
       {"PONG(0)", "PING", "PING(0", "PING()", "PING(0 \"12)", "DATA(1 close)",
        "DATA(1 flags=)", "DATA(1 a=1)", "HEADERS(1 [a=b)", "ping(0)",
        "DATA(4294967296)", "DATA(1))"}) {
    ::testing::TestPartResultArray failures;
    {
      const ::testing::ScopedFakeTestPartResultReporter reporter(&failures);
      ParseFrames(text);
    }
    EXPECT_GE(failures.size(), 1) << text;
  }
  EXPECT_NONFATAL_FAILURE(ParseFields("200; a"), "200; a");
  EXPECT_NONFATAL_FAILURE(ParseFields("2000"), "2000");
  EXPECT_NONFATAL_FAILURE(ParseFields(""), "");
}

}  // namespace
}  // namespace hotline::net
