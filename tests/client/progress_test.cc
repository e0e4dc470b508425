#include "client/cli/progress.h"

#include <sstream>

#include "gtest/gtest.h"

namespace hotline::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(ProgressTest, BytesHaveThreeDigitsAndAUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "0.98 KiB");
  EXPECT_EQ(FormatBytes(1 << 20), "1.00 MiB");
  EXPECT_EQ(FormatBytes(256 << 20), "256.0 MiB");
  EXPECT_EQ(FormatBytes(5.5 * (1 << 30)), "5.50 GiB");
}

TEST(ProgressTest, ABarShowsTheShare) {
  EXPECT_EQ(FormatProgress(1 << 20, 4 << 20, seconds(1), 64),
            "[#####                 ]  25 %  1.00 MiB of 4.00 MiB  1.00 MiB/s");
  EXPECT_EQ(FormatProgress(4 << 20, 4 << 20, seconds(2), 60),
            "[##################] 100 %  4.00 MiB of 4.00 MiB  2.00 MiB/s");
  // An empty body is complete; more than announced counts as complete.
  EXPECT_EQ(
      FormatProgress(0, 0, seconds(1), 60).find("100 %") == std::string::npos,
      false);
  EXPECT_NE(FormatProgress(9, 3, seconds(1), 60).find("100 %"),
            std::string::npos);
}

TEST(ProgressTest, WithoutRoomOrATotalOnlyFiguresAreShown) {
  EXPECT_EQ(FormatProgress(1 << 20, 4 << 20, seconds(1), 20),
            " 25 %  1.00 MiB of 4.00 MiB  1.00 MiB/s");
  EXPECT_EQ(FormatProgress(1 << 20, {}, seconds(2), 79),
            "1.00 MiB  512.0 KiB/s");
}

TEST(ProgressTest, DrawsAtIntervalsAndErasesTheBar) {
  std::ostringstream out;
  const Instant start{};
  {
    Progress progress(&out);
    progress.Start(100, start);
    progress.Update(10, start + milliseconds(99));
    EXPECT_EQ(out.str(), "");
    progress.Update(20, start + milliseconds(100));
    progress.Update(30, start + milliseconds(150));
    progress.Update(40, start + milliseconds(200));
  }
  const std::string all = out.str();
  EXPECT_EQ(all.find(" 10 %"), std::string::npos);
  EXPECT_NE(all.find(" 20 %"), std::string::npos);
  EXPECT_EQ(all.find(" 30 %"), std::string::npos);
  EXPECT_NE(all.find(" 40 %"), std::string::npos);
  EXPECT_EQ(all.substr(all.size() - 4), "\r\033[K");
}

TEST(ProgressTest, WithoutATerminalNothingIsDrawn) {
  Progress progress(nullptr);
  progress.Start({}, Instant{});
  progress.Update(10, Instant{} + seconds(1));
}

}  // namespace
}  // namespace hotline::client
