#include "server/daemon/log_levels.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using std::chrono::seconds;

constexpr char kTarget[] = "https://a.test:443";

class LogLevelsTest : public ::testing::Test {
 protected:
  LogLevelsTest() {
    levels_.Configure(LogLevel::kInfo);
    SetLogSink([this](LogLevel, std::string_view) { ++lines_; });
  }
  ~LogLevelsTest() override {
    SetLogSink(nullptr);
    levels_.Configure(LogLevel::kInfo);
  }

  // Whether a line of this level is written, about `target`.
  bool Writes(LogLevel level, const std::string& target) {
    const int before = lines_;
    if (LogEnabled(level)) WriteEnabledLog(level, "x", {{"target", target}});
    return lines_ > before;
  }

  const Instant now_ = Instant{} + seconds(1000);
  LogLevels levels_{LogLevel::kInfo};
  int lines_ = 0;
};

TEST_F(LogLevelsTest, ALevelOfATargetHoldsForItsLinesAlone) {
  EXPECT_EQ(levels_.Set(LogLevel::kDebug, kTarget, kNever), LogLevel::kInfo);
  EXPECT_TRUE(Writes(LogLevel::kDebug, kTarget));
  EXPECT_FALSE(Writes(LogLevel::kDebug, "https://b.test:443"));
  EXPECT_EQ(levels_.Set(LogLevel::kError, kTarget, kNever), LogLevel::kDebug);
  EXPECT_FALSE(Writes(LogLevel::kWarning, kTarget));
  EXPECT_TRUE(Writes(LogLevel::kInfo, "https://b.test:443"));
}

TEST_F(LogLevelsTest, LevelsEndByTheirTime) {
  EXPECT_EQ(levels_.Set(LogLevel::kDebug, "", now_ + seconds(5)),
            LogLevel::kInfo);
  EXPECT_EQ(levels_.Set(LogLevel::kError, kTarget, now_ + seconds(9)),
            LogLevel::kDebug);
  EXPECT_EQ(levels_.InWords(now_),
            (std::vector<std::string>{
                "the log level is debug, for another 5 s",
                "the log level of https://a.test:443 is error, for another "
                "9 s"}));
  EXPECT_FALSE(levels_.Expire(now_ + seconds(4)));
  EXPECT_TRUE(levels_.Expire(now_ + seconds(5)));
  EXPECT_EQ(GetLogLevel(), LogLevel::kInfo);
  EXPECT_FALSE(Writes(LogLevel::kInfo, kTarget));
  EXPECT_TRUE(levels_.Expire(now_ + seconds(9)));
  EXPECT_TRUE(Writes(LogLevel::kInfo, kTarget));
  EXPECT_TRUE(levels_.InWords(now_).empty());
}

TEST_F(LogLevelsTest, ANewConfigurationEndsThemAll) {
  levels_.Set(LogLevel::kDebug, "", kNever);
  levels_.Set(LogLevel::kDebug, kTarget, kNever);
  levels_.Configure(LogLevel::kWarning);
  EXPECT_EQ(GetLogLevel(), LogLevel::kWarning);
  EXPECT_FALSE(Writes(LogLevel::kInfo, kTarget));
}

TEST_F(LogLevelsTest, TheNumberOfTargetsIsBounded) {
  levels_.Set(LogLevel::kDebug, "", kNever);
  for (size_t i = 0; i < LogLevels::kMostTargets; ++i) {
    EXPECT_TRUE(levels_.Set(LogLevel::kDebug, absl::StrCat(i), kNever));
  }
  EXPECT_FALSE(levels_.Set(LogLevel::kDebug, "one more", kNever));
  EXPECT_TRUE(levels_.Set(LogLevel::kError, "0", kNever));
  EXPECT_TRUE(levels_.Set(LogLevel::kError, "", kNever));
}

}  // namespace
}  // namespace hotline::server
