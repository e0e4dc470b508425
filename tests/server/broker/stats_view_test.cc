#include "server/broker/stats_view.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace hotline::server {
namespace {

constexpr Instant kNow{std::chrono::hours(5)};

pool::Snapshot Targets(int n) {
  pool::Snapshot snapshot;
  for (int i = 0; i < n; ++i) {
    pool::TargetRow row;
    row.target = absl::StrCat("https://", i, ".example:443");
    row.counters.granted = 2;
    row.counters.reused = 1;
    row.counters.cancelled = 1;
    row.connections[static_cast<int>(pool::ConnState::kReady)] = 3;
    row.idle = 2;
    snapshot.targets.push_back(row);
  }
  return snapshot;
}

pool::Snapshot Leases(int n) {
  pool::Snapshot snapshot;
  for (int i = 0; i < n; ++i) {
    pool::LeaseRow row;
    row.target = "https://a:443";
    row.conn = i + 1;
    row.id = i + 1;
    row.granted = kNow - std::chrono::seconds(i);
    row.age = std::chrono::seconds(i);
    row.holder.session = i;
    snapshot.leases.push_back(row);
  }
  return snapshot;
}

TEST(StatsViewTest, ALeaseNamesItsSession) {
  v1::StatsRequest request;
  request.set_view(v1::STATS_VIEW_LEASES);
  v1::StatsResponse response;
  ASSERT_EQ(FillStats(request, "", Leases(3), {}, &response), nullptr);
  ASSERT_EQ(response.leases_size(), 3);
  EXPECT_EQ(response.leases(0).session(), 2u) << "the oldest one";
}

TEST(StatsViewTest, TotalsAddUp) {
  v1::StatsResponse response;
  ASSERT_EQ(FillStats({}, "", Targets(4), {}, &response), nullptr);
  EXPECT_EQ(response.totals().targets(), 4);
  EXPECT_EQ(response.totals().connections().idle(), 8);
  EXPECT_EQ(response.totals().connections().leased(), 4);
  EXPECT_EQ(response.totals().counters().acquires(), 12);
  EXPECT_EQ(response.totals().counters().acquire_failures(), 4);
  EXPECT_EQ(response.targets_size(), 4);
}

TEST(StatsViewTest, WarmFloorAndRecoveryAreShown) {
  pool::Snapshot snapshot = Targets(1);
  pool::TargetRow& row = snapshot.targets[0];
  v1::StatsResponse before;
  ASSERT_EQ(FillStats({}, "", snapshot, {}, &before), nullptr);
  EXPECT_EQ(before.targets(0).breaker().state(), "CLOSED");
  EXPECT_FALSE(before.targets(0).breaker().has_open_for());
  EXPECT_FALSE(before.targets(0).keep_alive().has_said());
  EXPECT_FALSE(before.targets(0).keep_alive().has_learned());
  EXPECT_FALSE(before.targets(0).has_desync());

  row.breaker = pool::BreakerState::kOpen;
  row.failures_in_a_row = 10;
  row.breaker_open_for = std::chrono::seconds(2);
  row.counters.breaker_opened = 3;
  row.keep_alive_said = std::chrono::seconds(60);
  row.keep_alive_learned = std::chrono::seconds(5);
  row.idle_for = std::chrono::seconds(4);
  row.floor = 7;
  row.warm_deficit = 2;
  row.arrivals_per_second = 12.5;
  row.dial_time = std::chrono::seconds(1);
  row.no_reuse_for = std::chrono::seconds(9);
  v1::StatsResponse after;
  ASSERT_EQ(FillStats({}, "", snapshot, {}, &after), nullptr);
  const v1::TargetStats& target = after.targets(0);
  EXPECT_EQ(target.breaker().state(), "OPEN");
  EXPECT_EQ(target.breaker().failures(), 10);
  EXPECT_EQ(target.breaker().opened(), 3);
  EXPECT_EQ(target.breaker().open_for().seconds(), 2);
  EXPECT_EQ(target.keep_alive().said().seconds(), 60);
  EXPECT_EQ(target.keep_alive().learned().seconds(), 5);
  EXPECT_EQ(target.keep_alive().idle_for().seconds(), 4);
  EXPECT_EQ(target.warm_floor().connections(), 7);
  EXPECT_EQ(target.warm_floor().missing(), 2);
  EXPECT_EQ(target.warm_floor().arrivals_per_second(), 12.5);
  EXPECT_EQ(target.warm_floor().dial_time().seconds(), 1);
  EXPECT_EQ(target.desync().no_reuse_for().seconds(), 9);
}

TEST(StatsViewTest, PagesShowEachRowOnceAndInOrder) {
  v1::StatsRequest request;
  request.set_page_size(7);
  std::vector<std::string> seen;
  for (int pages = 0; pages < 10; ++pages) {
    v1::StatsResponse response;
    ASSERT_EQ(FillStats(request, "", Targets(30), {}, &response), nullptr);
    for (const auto& row : response.targets()) seen.push_back(row.target());
    if (response.next_page_token().empty()) break;
    request.set_page_token(response.next_page_token());
  }
  EXPECT_EQ(seen.size(), 30u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), 30u);
}

TEST(StatsViewTest, ARowRemovedBetweenPagesShiftsNoOther) {
  v1::StatsRequest request;
  request.set_page_size(10);
  v1::StatsResponse first;
  pool::Snapshot snapshot = Targets(20);
  ASSERT_EQ(FillStats(request, "", snapshot, {}, &first), nullptr);
  // Removes the last row of the first page before the second page is requested.
  std::erase_if(snapshot.targets, [&first](const pool::TargetRow& row) {
    return row.target == first.targets(9).target();
  });
  request.set_page_token(first.next_page_token());
  v1::StatsResponse second;
  ASSERT_EQ(FillStats(request, "", snapshot, {}, &second), nullptr);
  EXPECT_EQ(second.targets_size(), 10);
  EXPECT_TRUE(second.next_page_token().empty());
}

TEST(StatsViewTest, LeasesComeOldestFirst) {
  v1::StatsRequest request;
  request.set_view(v1::STATS_VIEW_LEASES);
  v1::StatsResponse response;
  ASSERT_EQ(FillStats(request, "", Leases(12), {}, &response), nullptr);
  ASSERT_EQ(response.leases_size(), 12);
  EXPECT_EQ(response.leases(0).age().seconds(), 11);
  EXPECT_EQ(response.leases(11).age().seconds(), 0);
}

TEST(StatsViewTest, ATokenOfAnotherViewOrNoneIsRefused) {
  v1::StatsRequest request;
  request.set_page_size(1);
  v1::StatsResponse response;
  ASSERT_EQ(FillStats(request, "", Targets(3), {}, &response), nullptr);
  const std::string token = response.next_page_token();
  ASSERT_FALSE(token.empty());

  request.set_view(v1::STATS_VIEW_LEASES);
  for (const std::string& bad : {token, std::string("x"), std::string("4."),
                                 std::string("4.zz"), std::string("4.abc")}) {
    request.set_page_token(bad);
    const ErrorPtr error = FillStats(request, "", Leases(3), {}, &response);
    ASSERT_NE(error, nullptr) << bad;
    EXPECT_EQ(error->reason, "BAD_PAGE_TOKEN");
    EXPECT_EQ(error->field, "page_token");
  }
}

TEST(StatsViewTest, ConnectionStatesAreTheContractsWords) {
  pool::Snapshot snapshot;
  pool::ConnectionRow row;
  row.id = 9;
  row.state = pool::ConnState::kProbing;
  snapshot.connections.push_back(row);
  v1::StatsRequest request;
  request.set_view(v1::STATS_VIEW_CONNECTIONS);
  v1::StatsResponse response;
  ASSERT_EQ(FillStats(request, "", snapshot, {}, &response), nullptr);
  ASSERT_EQ(response.connections_size(), 1);
  EXPECT_EQ(response.connections(0).state(), "PROBING");
}

TEST(StatsViewTest, SummaryHasNoRows) {
  v1::StatsRequest request;
  request.set_view(v1::STATS_VIEW_SUMMARY);
  v1::StatsResponse response;
  ASSERT_EQ(FillStats(request, "", Targets(3), {}, &response), nullptr);
  EXPECT_EQ(response.targets_size(), 0);
  EXPECT_EQ(response.totals().targets(), 3);
}

}  // namespace
}  // namespace hotline::server
