// Which answers make an address cool down, and for how long.
#include "server/broker/cool_down.h"

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using std::chrono::system_clock;

// Sun, 06 Nov 1994 08:49:37 GMT.
const auto kWall = system_clock::from_time_t(784111777);

CoolDownSettings Settings() {
  return {.statuses = {403, 429, 503},
          .retry_after = true,
          .length = minutes(15),
          .max_length = minutes(60)};
}

std::optional<Duration> Cool(const CoolDownSettings& settings, int status,
                             const char* retry_after = nullptr) {
  std::vector<upstream::Header> headers = {{"server", "x"}};
  if (retry_after != nullptr) headers.push_back({"retry-after", retry_after});
  return CoolFor(settings, status, headers, kWall);
}

TEST(RetryAfterTest, AcceptsSecondsAndDates) {
  EXPECT_EQ(RetryAfter("120", kWall), seconds(120));
  EXPECT_EQ(RetryAfter(" 0 ", kWall), seconds(0));
  EXPECT_EQ(RetryAfter("Sun, 06 Nov 1994 08:50:37 GMT", kWall), seconds(60));
  EXPECT_EQ(RetryAfter("Sunday, 06-Nov-94 08:50:37 GMT", kWall), seconds(60));
  EXPECT_EQ(RetryAfter("Sun Nov  6 08:50:37 1994", kWall), seconds(60));
}

TEST(RetryAfterTest, APassedDateIsZero) {
  EXPECT_EQ(RetryAfter("Sun, 06 Nov 1994 08:49:36 GMT", kWall), seconds(0));
  EXPECT_EQ(RetryAfter("Thu, 01 Jan 1970 00:00:00 GMT", kWall), seconds(0));
  EXPECT_EQ(RetryAfter("Sunday, 06-Nov-68 08:49:37 GMT", kWall), seconds(0))
      << "1968, not 2068";
}

TEST(RetryAfterTest, LongerThanAYearIsCutToAYear) {
  const Duration year = std::chrono::hours(24 * 366);
  EXPECT_EQ(RetryAfter("99999999999", kWall), year);
  EXPECT_EQ(RetryAfter("99999999999999999999999", kWall), year);
  EXPECT_EQ(RetryAfter("Fri, 31 Dec 9999 23:59:59 GMT", kWall), year);
}

TEST(RetryAfterTest, RejectsEverythingElse) {
  for (const char* value :
       {"", " ", "-1", "+5", "1.5", "5s", "soon", "0x10", "1 2",
        "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 GMT, 5", "06 Nov 1994"}) {
    EXPECT_EQ(RetryAfter(value, kWall), std::nullopt) << value;
  }
}

TEST(CoolForTest, NoAnswerCoolsByDefault) {
  for (int status : {200, 403, 429, 500, 503}) {
    EXPECT_EQ(Cool(CoolDownSettings(), status, "60"), std::nullopt);
  }
}

TEST(CoolForTest, OnlyConfiguredStatusesCool) {
  for (int status : {403, 429, 503}) {
    EXPECT_EQ(Cool(Settings(), status), minutes(15)) << status;
  }
  for (int status : {200, 304, 402, 404, 428, 430, 500, 502, 504}) {
    EXPECT_EQ(Cool(Settings(), status), std::nullopt) << status;
    EXPECT_EQ(Cool(Settings(), status, "60"), std::nullopt) << status;
  }
}

TEST(CoolForTest, RetryAfterSaysHowLongWithinTheLimit) {
  EXPECT_EQ(Cool(Settings(), 403, "60"), seconds(60));
  EXPECT_EQ(Cool(Settings(), 503, "Sun, 06 Nov 1994 08:50:37 GMT"),
            seconds(60));
  EXPECT_EQ(Cool(Settings(), 503, "3600"), minutes(60));
  EXPECT_EQ(Cool(Settings(), 503, "3601"), minutes(60));
  EXPECT_EQ(Cool(Settings(), 503, "0"), seconds(1)) << "at least a moment";
  EXPECT_EQ(Cool(Settings(), 503, "nonsense"), minutes(15));
}

TEST(CoolForTest, RetryAfterAloneCountsWith429And503IfEnabled) {
  CoolDownSettings settings = Settings();
  settings.statuses.clear();
  EXPECT_EQ(Cool(settings, 429, "60"), seconds(60));
  EXPECT_EQ(Cool(settings, 503, "60"), seconds(60));
  EXPECT_EQ(Cool(settings, 503), std::nullopt);
  EXPECT_EQ(Cool(settings, 503, "nonsense"), std::nullopt);
  EXPECT_EQ(Cool(settings, 301, "60"), std::nullopt);
  settings.retry_after = false;
  EXPECT_EQ(Cool(settings, 503, "60"), std::nullopt);
  settings.statuses = {503};
  EXPECT_EQ(Cool(settings, 503, "60"), minutes(15)) << "it is not listened to";
}

}  // namespace
}  // namespace hotline::server
