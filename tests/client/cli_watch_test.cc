// `hotline stats --sort` and `--watch`, and `hotline top`.
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "client/cli/read_stats.h"
#include "client/cli/table.h"
#include "client/cli/top_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/command_line.h"

namespace hotline::client {
namespace {

using grpc::Status;
using grpc::StatusCode;
using testing::HasSubstr;
using testing::Not;

v1::TargetStats* AddTarget(v1::StatsResponse* stats, const std::string& name) {
  v1::TargetStats* target = stats->add_targets();
  target->set_target(name);
  target->set_max_connections(10);
  return target;
}

TEST(SortRows, SortsNamesUpwardsAndFiguresDownwards) {
  v1::StatsResponse stats;
  AddTarget(&stats, "https://b")->set_waiters(1);
  AddTarget(&stats, "https://a")->set_waiters(5);
  AddTarget(&stats, "https://c")->set_waiters(1);
  const auto order = [&](const char* key) {
    SortRows(v1::STATS_VIEW_TARGETS, key, &stats);
    std::string names;
    for (const auto& target : stats.targets()) names += target.target().back();
    return names;
  };
  EXPECT_EQ(order("waiters"), "abc");
  EXPECT_EQ(order("target"), "abc");
  stats.mutable_targets(2)->mutable_oldest_wait()->set_nanos(1);
  EXPECT_EQ(order("oldest-wait"), "cab");
  for (const v1::StatsView view :
       {v1::STATS_VIEW_SUMMARY, v1::STATS_VIEW_TARGETS,
        v1::STATS_VIEW_CONNECTIONS, v1::STATS_VIEW_LEASES}) {
    for (const std::string& key : SortKeys(view)) SortRows(view, key, &stats);
  }
}

TEST_F(CommandLineTest, StatsAreSortedByAKeyOfTheView) {
  broker_.stats.Answer([](const auto&, auto* response, int) {
    response->add_leases()->mutable_age()->set_seconds(1);
    response->add_leases()->mutable_age()->set_seconds(300);
    return Status::OK;
  });
  const std::string table =
      Hotline({"stats", "--view", "leases", "--sort", "age"}).out;
  EXPECT_LT(table.find("5 m 0 s"), table.find("1.00 s")) << table;
  const Result result = Hotline({"stats", "--sort", "age"});
  EXPECT_EQ(result.code, kExitUsage);
  EXPECT_THAT(result.err, HasSubstr("--view targets cannot be sorted by age; "
                                    "by target, connections"));
}

TEST_F(CommandLineTest, StatsAreWatchedAsOftenAsAsked) {
  const Result result = Hotline({"stats", "--watch", "--interval", "100ms",
                                 "-n", "3", "--view", "summary"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(broker_.stats.requests().size(), 3u);
  EXPECT_EQ(
      std::vector<std::string>(absl::StrSplit(result.out, "broker ")).size(),
      4u);
  EXPECT_EQ(Hotline({"stats", "-n", "3"}).code, kExitUsage);
}

TEST_F(CommandLineTest, AWatchEndsWithTheFirstError) {
  broker_.stats.Answer([](const auto&, auto*, int call) {
    return call < 2 ? Status::OK
                    : BrokerError(StatusCode::NOT_FOUND, "TARGET_UNKNOWN", "");
  });
  const Result result = Hotline({"stats", "--watch", "--interval", "100ms",
                                 "--target", "https://gone.test"});
  EXPECT_EQ(result.code, kExitNotFound);
  EXPECT_EQ(broker_.stats.requests()[0].target(), "https://gone.test");
}

class FormatTopTest : public testing::Test {
 protected:
  FormatTopTest() {
    for (v1::StatsResponse* stats : {&before_, &now_}) {
      stats->set_instance("ab12");
      AddTarget(stats, "https://calm.test");
      AddTarget(stats, "https://full.test");
      AddTarget(stats, "https://open.test");
      AddTarget(stats, "https://ejected.test");
    }
    now_.mutable_targets(0)->mutable_counters()->set_acquires(500);
    v1::TargetStats* full = now_.mutable_targets(1);
    full->mutable_connections()->set_leased(10);
    full->set_waiters(7);
    full->mutable_oldest_wait()->set_seconds(3);
    v1::TargetStats* open = now_.mutable_targets(2);
    open->mutable_breaker()->set_state("OPEN");
    open->set_last_dial_error("refused\x1b[2J");
    v1::AddressStats* ejected = now_.mutable_targets(3)->add_addresses();
    ejected->set_state("EJECTED");
    ejected->set_why("5 failures in a row");
  }

  std::vector<std::string> Lines(size_t columns, std::string_view sort,
                                 size_t lines = 0) const {
    return absl::StrSplit(FormatTop({.now = now_,
                                     .before = &before_,
                                     .between = std::chrono::seconds(2),
                                     .sort = sort,
                                     .columns = columns,
                                     .lines = lines}),
                          '\n');
  }

  static constexpr size_t kTitles = 4;
  v1::StatsResponse before_;
  v1::StatsResponse now_;
};

TEST_F(FormatTopTest, ProblemsComeFirstAndSayWhatIsWrong) {
  const std::vector<std::string> lines = Lines(120, "problems");
  ASSERT_EQ(lines.size(), kTitles + 5);
  EXPECT_THAT(lines[kTitles], HasSubstr("PROBLEM"));
  EXPECT_THAT(lines[kTitles + 1], HasSubstr("https://full.test"));
  EXPECT_THAT(lines[kTitles + 1], HasSubstr("10/10      7    3.00 s"));
  EXPECT_THAT(lines[kTitles + 1], testing::EndsWith("  full"));
  EXPECT_THAT(lines[kTitles + 2], HasSubstr("breaker open: refused\\u001b[2J"));
  EXPECT_THAT(lines[kTitles + 3], HasSubstr("1 of 1 addresses EJECTED: 5"));
  EXPECT_THAT(lines[kTitles + 4], HasSubstr("https://calm.test"));
  EXPECT_THAT(lines[kTitles + 4], HasSubstr(" 250 ")) << "acquires per second";
}

TEST_F(FormatTopTest, FitsNarrowTerminalsAndUsesWideOnes) {
  now_.mutable_targets(2)->set_target("https://" + std::string(40, 'x') +
                                      ".test");
  now_.mutable_targets(3)->mutable_addresses(0)->set_why("zürich " +
                                                         std::string(300, 'y'));
  for (const size_t columns : {40, 60, 80, 120, 200, 300}) {
    for (const std::string& line : Lines(columns, "problems")) {
      EXPECT_LE(DisplayWidth(line), columns) << line;
    }
  }
  EXPECT_THAT(Lines(80, "problems")[kTitles], HasSubstr("FAIL/S"));
  EXPECT_THAT(Lines(80, "problems")[kTitles], Not(HasSubstr("P99")));
  EXPECT_THAT(Lines(200, "problems")[kTitles], HasSubstr("P99"));
  EXPECT_THAT(Lines(200, "problems")[kTitles + 2],
              HasSubstr(std::string(40, 'x') + ".test"));
}

TEST_F(FormatTopTest, SortsByEachKeyWithFirstLettersOfTheirOwn) {
  std::string letters;
  for (const std::string& key : TopSortKeys()) {
    EXPECT_EQ(letters.find(key[0]), std::string::npos) << key;
    letters += key[0];
    EXPECT_EQ(Lines(80, key).size(), kTitles + 5);
  }
  EXPECT_EQ(letters.find('q'), std::string::npos) << "quits";
  EXPECT_THAT(Lines(80, "acquires")[kTitles + 1], HasSubstr("calm"));
  EXPECT_THAT(Lines(80, "target")[kTitles + 1], HasSubstr("calm"));
  EXPECT_THAT(Lines(80, "leased")[kTitles + 1], HasSubstr("full"));
}

TEST_F(FormatTopTest, SaysHowManyTargetsDoNotFit) {
  const std::vector<std::string> lines = Lines(80, "problems", kTitles + 3);
  ASSERT_EQ(lines.size(), kTitles + 3);
  EXPECT_THAT(lines[kTitles + 1], HasSubstr("full"));
  EXPECT_EQ(lines.back(), "3 more targets");
}

TEST_F(FormatTopTest, ARestartedBrokerHasNoRatesYet) {
  now_.set_instance("other");
  EXPECT_THAT(Lines(80, "problems")[2], HasSubstr("- acquires"));
}

TEST_F(CommandLineTest, TopPrintsFramesWithoutATerminal) {
  broker_.stats.Answer([](const auto&, auto* response, int) {
    AddTarget(response, "https://a.test")->set_waiters(1);
    return Status::OK;
  });
  const Result result = Hotline({"top", "-n", "2", "--interval", "100ms"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(broker_.stats.requests().size(), 2u);
  EXPECT_THAT(result.out, HasSubstr("https://a.test"));
  EXPECT_THAT(result.out, HasSubstr("callers wait"));
  EXPECT_THAT(result.out, Not(HasSubstr("\033")));
  EXPECT_EQ(Hotline({"top", "--sort", "colour"}).code, kExitUsage);
}

TEST_F(CommandLineTest, TopOutlivesAnErrorOfALaterPoll) {
  broker_.stats.Answer([](const auto&, auto*, int call) {
    return call == 2 ? BrokerError(StatusCode::INTERNAL, "OOPS", "gone\x1b")
                     : Status::OK;
  });
  const Result result = Hotline({"top", "-n", "3", "--interval", "100ms"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_THAT(result.out, HasSubstr("OOPS: gone\\u001b\n"));
  EXPECT_EQ(broker_.stats.requests().size(), 3u);
}

}  // namespace
}  // namespace hotline::client
