#include <chrono>
#include <string>
#include <vector>

#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/stats_table.h"
#include "client/cli/table.h"
#include "client/cli/usage.h"
#include "gtest/gtest.h"

namespace hotline::client {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(ParseDuration, TakesSecondsAndUnits) {
  EXPECT_EQ(ParseDuration("1.5"), milliseconds(1500));
  EXPECT_EQ(ParseDuration("200ms"), milliseconds(200));
  EXPECT_EQ(ParseDuration("1m30s"), seconds(90));
  EXPECT_EQ(ParseDuration("0"), Duration(0));
  EXPECT_EQ(ParseDuration("24h"), hours(24));
}

TEST(ParseDuration, RefusesInvalidDurations) {
  for (const char* text :
       {"", "x", "1x", "-1", "-1s", "25h", "inf", "nan", "1e99"}) {
    EXPECT_FALSE(ParseDuration(text).has_value()) << text;
  }
}

TEST(FormatDuration, HasThreeDigitsAndAUnit) {
  EXPECT_EQ(FormatDuration(nanoseconds(0)), "0 us");
  EXPECT_EQ(FormatDuration(nanoseconds(1234)), "1.23 us");
  EXPECT_EQ(FormatDuration(microseconds(850)), "850 us");
  EXPECT_EQ(FormatDuration(nanoseconds(999'700)), "1.00 ms");
  EXPECT_EQ(FormatDuration(milliseconds(12)), "12.0 ms");
  EXPECT_EQ(FormatDuration(seconds(3)), "3.00 s");
  EXPECT_EQ(FormatDuration(seconds(200)), "3 m 20 s");
  EXPECT_EQ(FormatDuration(seconds(7265)), "2 h 1 m");
}

TEST(Table, AlignsByCharactersAndLeavesNoTrailingSpace) {
  Table table({{"NAME", Table::Align::kLeft},
               {"N", Table::Align::kRight},
               {"NOTE", Table::Align::kLeft}});
  table.Add({"zürich", "7", "x"});
  table.Add({"a", "1234", ""});
  EXPECT_EQ(table.Render(false),
            "NAME       N  NOTE\n"
            "zürich     7  x\n"
            "a       1234\n");
  EXPECT_EQ(table.Render(true).substr(0, 4), "\033[1m");
}

TEST(FormatJson, NumbersAreNumbersAndTextIsEscaped) {
  v1::StatsResponse stats;
  stats.set_instance("\x1b\"\u202e");
  stats.mutable_start_time()->set_seconds(0);
  stats.mutable_totals()->set_max_connections(int64_t{1} << 60);
  v1::TargetStats* target = stats.add_targets();
  target->mutable_oldest_wait()->set_nanos(1'500'000);
  target->mutable_warm_floor()->set_arrivals_per_second(0.1);
  stats.add_connections()->set_mode(v1::MODE_EXCLUSIVE);
  const std::string json = FormatJson(stats);
  for (const char* part :
       {"\"instance\": \"\\u001b\\\"\\u202e\",\n",
        "\"start_time\": \"1970-01-01T00:00:00Z\"",
        "\"max_connections\": 1152921504606846976,\n",
        "\"oldest_wait\": \"0.001500s\"", "\"arrivals_per_second\": 0.1",
        "\"mode\": \"MODE_EXCLUSIVE\"", "\"leases\": [],\n",
        "\"addresses\": []"}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << json;
  }
  EXPECT_EQ(json.find("breaker"), std::string::npos) << "unset";
}

TEST(Nearest, IsThePrefixOrTheFewestEdits) {
  const std::vector<std::string> words = {"get", "stats", "release", "renew"};
  EXPECT_EQ(Nearest("rel", words), "release");
  EXPECT_EQ(Nearest("re", words), "") << "two begin so";
  EXPECT_EQ(Nearest("gte", words), "get");
  EXPECT_EQ(Nearest("stat", words), "stats");
  EXPECT_EQ(Nearest("realese", words), "release");
  EXPECT_EQ(Nearest("xyz", words), "");
  EXPECT_EQ(Nearest("", words), "");
}

TEST(FormatWait, ShowsTheLimitAndItsHolders) {
  v1::WaitExplanation wait;
  wait.set_limit("target_connections");
  wait.set_limit_value(10);
  wait.set_place(3);
  wait.set_last_dial_error("refused");
  v1::HolderAge* holder = wait.add_oldest_holders();
  holder->mutable_holder()->set_client_id("billing");
  holder->mutable_holder()->set_purpose("export");
  holder->mutable_age()->set_seconds(12);
  EXPECT_EQ(FormatWait(wait),
            "waited for target_connections (limit 10), place 3 in the queue, "
            "0 dials in flight, last dial error: refused, held by billing "
            "(export) for 12.0 s");
}

TEST(FormatReceipt, ShowsOnlyThePhasesThatHappened) {
  v1::Receipt receipt;
  receipt.mutable_connection()->set_connection_id(17);
  receipt.mutable_connection()->set_protocol("http/1.1");
  receipt.mutable_connection()->set_remote_address("127.0.0.1:8443");
  receipt.mutable_connection()->set_tls_version("TLSv1.3");
  receipt.mutable_connection()->set_tls_cipher("TLS_AES_128_GCM_SHA256");
  receipt.mutable_connection()->set_reused(true);
  receipt.mutable_connection()->set_calls(1);
  receipt.mutable_connection()->mutable_age()->set_seconds(2);
  receipt.mutable_timings()->mutable_total()->set_nanos(1'500'000);
  receipt.set_attempts(2);
  receipt.add_failed_attempts("NOT_SENT");
  EXPECT_EQ(FormatReceipt(receipt),
            "connection #17 http/1.1 to 127.0.0.1:8443 (TLSv1.3 "
            "TLS_AES_128_GCM_SHA256), reused, 1 call before, 2.00 s old\n"
            "  total          1.50 ms\n"
            "attempts   2 (failed: NOT_SENT)\n");
}

TEST(FormatStats, ShowsARowPerTarget) {
  v1::StatsResponse stats;
  stats.set_instance("ab12");
  stats.mutable_start_time()->set_seconds(1000);
  stats.mutable_totals()->set_max_connections(100);
  stats.mutable_totals()->mutable_connections()->set_idle(2);
  v1::TargetStats* target = stats.add_targets();
  target->set_target("https://a.test");
  target->set_max_connections(10);
  target->mutable_connections()->set_idle(2);
  target->mutable_counters()->set_acquires(5);
  const std::string text =
      FormatStats(stats, v1::STATS_VIEW_TARGETS, seconds(1090), false);
  EXPECT_NE(text.find("broker       ab12, up 1 m 30 s\n"), std::string::npos);
  EXPECT_NE(text.find("connections  2 of 100: 2 idle, 0 leased"),
            std::string::npos);
  EXPECT_NE(text.find("\nTARGET          CONNS  LIMIT"), std::string::npos);
  EXPECT_NE(text.find("\nhttps://a.test      2     10     2"),
            std::string::npos)
      << text;
  EXPECT_EQ(FormatStats(stats, v1::STATS_VIEW_SUMMARY, seconds(0), false)
                .find("TARGET"),
            std::string::npos);
}

TEST(FormatStats, QuantilesInTheLowestBucketAreBelowItsBound) {
  v1::StatsResponse stats;
  v1::Quantiles* wait = stats.add_targets()->mutable_acquire_wait();
  const auto row = [&] {
    return FormatStats(stats, v1::STATS_VIEW_TARGETS, seconds(0), false);
  };
  EXPECT_EQ(row().find("50.0 us"), std::string::npos) << "none waited";
  wait->set_count(2);
  wait->mutable_p50()->set_nanos(50'000);
  wait->mutable_p99()->set_nanos(100'000);
  // A broker that does not report the bound of its lowest bucket.
  EXPECT_EQ(row().find("<"), std::string::npos) << row();
  wait->mutable_least()->set_nanos(50'000);
  EXPECT_NE(row().find("< 50 us"), std::string::npos) << row();
  EXPECT_NE(row().find(" 100 us"), std::string::npos) << row();
  EXPECT_EQ(row().find("< 100 us"), std::string::npos) << row();
}

TEST(FormatStats, SaysWhichSessionALeaseEndsWith) {
  v1::StatsResponse stats;
  stats.mutable_totals()->set_sessions(3);
  stats.mutable_totals()->mutable_counters()->set_leases_reclaimed(7);
  stats.add_leases()->set_session(42);
  stats.add_leases()->set_target("https://unary");
  const std::string text =
      FormatStats(stats, v1::STATS_VIEW_LEASES, seconds(0), false);
  EXPECT_NE(text.find("sessions     3: 7 leases taken back\n"),
            std::string::npos);
  EXPECT_NE(text.find("no         42  -"), std::string::npos) << text;
  EXPECT_NE(text.find("no          -  -"), std::string::npos) << text;
}

TEST(FormatStats, ShowsAddressesWhereThereIsSomethingToTell) {
  v1::StatsResponse stats;
  v1::TargetStats* plain = stats.add_targets();
  plain->set_target("https://plain.test");
  plain->add_addresses()->set_address("192.0.2.9");
  EXPECT_EQ(FormatStats(stats, v1::STATS_VIEW_TARGETS, seconds(0), false)
                .find("ADDRESS"),
            std::string::npos);
  v1::TargetStats* target = stats.add_targets();
  target->set_target("https://a.test");
  v1::AddressStats* good = target->add_addresses();
  good->set_address("192.0.2.1");
  good->set_state("ACTIVE");
  good->set_connections(3);
  good->mutable_dial_time()->set_nanos(1'500'000);
  v1::AddressStats* bad = target->add_addresses();
  bad->set_address("192.0.2.2");
  bad->set_state("EJECTED");
  bad->set_failures(5);
  bad->set_why("5 failures in a row: Connection refused");
  bad->mutable_until()->set_seconds(1100);
  const std::string text =
      FormatStats(stats, v1::STATS_VIEW_TARGETS, seconds(1090), false);
  const size_t at = text.find("\nTARGET          ADDRESS    STATE");
  ASSERT_NE(at, std::string::npos) << text;
  EXPECT_NE(text.find("1.50 ms", at), std::string::npos) << text;
  EXPECT_NE(text.find("10.0 s  5 failures in a row: Connection refused", at),
            std::string::npos)
      << text;
  EXPECT_EQ(text.find("192.0.2.9", at), std::string::npos) << text;
}

TEST(ExitCodeFor, MapsOkAndErrorsWithoutDetails) {
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), kExitOk);
  EXPECT_EQ(ExitCodeFor(absl::UnavailableError("")), kExitUnreachable);
  EXPECT_EQ(ExitCodeFor(absl::UnknownError("")), kExitFailed);
  EXPECT_EQ(ExitCodeFor(absl::InternalError("")), kExitFailed);
  EXPECT_EQ(ExitCodeFor(absl::DeadlineExceededError("")), kExitDeadline);
}

}  // namespace
}  // namespace hotline::client
