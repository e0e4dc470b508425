// Pages of Stats that lost or repeated rows.
//
// Leases were listed by start time and connection. Those requested by one
// message of a Session on one HTTP/2 connection share both, so 60 of them in
// pages of seven were 7 rows; and the start was derived from the age at the
// time of each page, so they could also be 48. A filter for an unknown target
// returned an empty list, like that for a target without leases.
//
// Now every row has a unique key that does not change, and an unknown target is
// an error.
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/broker/stats_view.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::PeerConnection;
using testing::ScriptedPeer;

// What one view shows of a row, to tell rows apart by.
std::vector<std::string> Names(const v1::StatsResponse& response) {
  std::vector<std::string> names;
  for (const auto& row : response.targets()) names.push_back(row.target());
  for (const auto& row : response.connections()) {
    names.push_back(absl::StrCat(row.connection_id()));
  }
  for (const auto& row : response.leases()) {
    names.push_back(row.holder().client_id());
  }
  return names;
}

// A pool in which things come and go.
class Churn {
 public:
  explicit Churn(int seed) : random_(seed) {}

  void Add() {
    const int n = ++last_;
    pool::TargetRow target;
    target.target = absl::StrCat("http://", random_() % 1000, ".", n, ":80");
    snapshot_.targets.push_back(target);
    pool::ConnectionRow connection;
    connection.id = (uint64_t{random_()} << 20) + n;
    snapshot_.connections.push_back(connection);
    pool::LeaseRow lease;
    lease.id = (uint64_t{random_()} << 20) + n;
    lease.conn = 7;  // All on one connection, and in few moments.
    lease.granted = Instant(std::chrono::seconds(100 + random_() % 3));
    lease.holder.client_id = absl::StrCat("lease ", n);
    snapshot_.leases.push_back(lease);
  }

  // One that came after the first `kept`, if there is one.
  void Remove(size_t kept) {
    if (snapshot_.leases.size() <= kept) return;
    const size_t at = kept + random_() % (snapshot_.leases.size() - kept);
    snapshot_.targets.erase(snapshot_.targets.begin() + at);
    snapshot_.connections.erase(snapshot_.connections.begin() + at);
    snapshot_.leases.erase(snapshot_.leases.begin() + at);
  }

  // As it is at this moment, in any order.
  pool::Snapshot Look() {
    pool::Snapshot now = snapshot_;
    std::shuffle(now.targets.begin(), now.targets.end(), random_);
    std::shuffle(now.connections.begin(), now.connections.end(), random_);
    std::shuffle(now.leases.begin(), now.leases.end(), random_);
    for (auto& lease : now.leases) lease.age = std::chrono::seconds(++age_);
    return now;
  }

  const pool::Snapshot& snapshot() const { return snapshot_; }

 private:
  std::mt19937 random_;
  int last_ = 0;
  int age_ = 0;
  pool::Snapshot snapshot_;
};

TEST(StatsListingTest, ARowThatOutlivesTheListingIsListedOnce) {
  constexpr size_t kRows = 60;
  for (const v1::StatsView view :
       {v1::STATS_VIEW_TARGETS, v1::STATS_VIEW_CONNECTIONS,
        v1::STATS_VIEW_LEASES}) {
    for (int size = 1; size <= static_cast<int>(kRows) + 1; ++size) {
      Churn churn(size);
      for (size_t i = 0; i < kRows; ++i) churn.Add();
      std::map<std::string, int> seen;
      v1::StatsRequest request;
      request.set_view(view);
      request.set_page_size(size);
      do {
        v1::StatsResponse response;
        ASSERT_EQ(FillStats(request, "", churn.Look(), {}, &response), nullptr);
        for (const std::string& name : Names(response)) ++seen[name];
        request.set_page_token(response.next_page_token());
        churn.Remove(kRows);
        if (seen.size() < 4 * kRows) churn.Add();
        churn.Remove(kRows);
      } while (!request.page_token().empty());
      for (const auto& [name, times] : seen) EXPECT_EQ(times, 1) << name;
      for (size_t i = 0; i < kRows; ++i) {
        const pool::Snapshot& all = churn.snapshot();
        const std::string name = view == v1::STATS_VIEW_TARGETS
                                     ? all.targets[i].target
                                 : view == v1::STATS_VIEW_CONNECTIONS
                                     ? absl::StrCat(all.connections[i].id)
                                     : all.leases[i].holder.client_id;
        EXPECT_EQ(seen.count(name), 1u)
            << name << ", view " << view << ", by " << size;
      }
    }
  }
}

class StatsOfBrokerTest : public BrokerTest {
 protected:
  StatsOfBrokerTest() {
    target_config_.max_connections = 60;
    target_config_.max_dials = 60;
    settings_.targets = {"https://configured.test:443"};
  }

  std::string Ask(const v1::StatsRequest& request,
                  v1::StatsResponse* response) {
    CallContext context;
    context.arrival = MonotonicNow();
    error_ = broker_->Stats(request, response, context);
    return error_ == nullptr ? "OK" : error_->reason;
  }

  ErrorPtr error_;
};

TEST_F(StatsOfBrokerTest, SixtyLeasesOfOneMomentAreSixtyRowsOnPagesOfAnySize) {
  ScriptedPeer peer(
      [](PeerConnection& connection) { connection.AwaitClose(); });
  std::vector<std::string> held;
  const auto acquire_all = [&](Instant arrival) {
    std::vector<std::unique_ptr<TestAcquire>> calls;
    for (int i = 0; i < 60; ++i) {
      auto call = std::make_unique<TestAcquire>();
      call->request.set_target(peer.target());
      call->request.mutable_holder()->set_client_id(absl::StrCat(i));
      CallContext context;
      context.arrival = arrival;
      call->call = broker_->NewAcquire(&call->request, &call->response, context,
                                       call.get());
      call->call->Start();
      calls.push_back(std::move(call));
    }
    for (const auto& call : calls) {
      ASSERT_EQ(call->Wait(), "OK");
      held.push_back(call->response.lease().lease_id());
    }
  };
  const auto release_all = [&] {
    for (const std::string& lease : held) EXPECT_EQ(Release(lease), "OK");
    held.clear();
  };
  // Dialled one after the other; then all of them lent in one moment.
  acquire_all(MonotonicNow());
  release_all();
  acquire_all(MonotonicNow());

  for (const int size : {1, 7, 59, 60, 61, 1000}) {
    v1::StatsRequest request;
    request.set_view(v1::STATS_VIEW_LEASES);
    request.set_target(peer.target());
    request.set_page_size(size);
    std::multiset<std::string> seen;
    do {
      v1::StatsResponse response;
      ASSERT_EQ(Ask(request, &response), "OK");
      for (const std::string& name : Names(response)) seen.insert(name);
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    EXPECT_EQ(seen.size(), 60u) << size;
    EXPECT_EQ(std::set(seen.begin(), seen.end()).size(), 60u) << size;
  }
  release_all();
}

TEST_F(StatsOfBrokerTest, ATargetThatIsNotKnownIsAnErrorInEveryView) {
  for (int view = 0; view <= v1::StatsView_MAX; ++view) {
    v1::StatsRequest request;
    v1::StatsResponse response;
    request.set_view(static_cast<v1::StatsView>(view));
    request.set_target("https://Unknown.test");
    EXPECT_EQ(Ask(request, &response), "TARGET_UNKNOWN");
    EXPECT_EQ(error_->code, absl::StatusCode::kNotFound);
    ASSERT_EQ(error_->metadata.size(), 1u);
    EXPECT_EQ(error_->metadata[0].first, "target");
    EXPECT_EQ(error_->metadata[0].second, "https://unknown.test:443");
    // Configured, and nothing was ever asked of it.
    request.set_target("https://configured.test");
    EXPECT_EQ(Ask(request, &response), "OK");
  }
}

TEST_F(StatsOfBrokerTest, AnIdleTargetIsKnown) {
  ScriptedPeer peer(testing::AlwaysAnswer(testing::OkResponse("x")));
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  v1::StatsRequest request;
  v1::StatsResponse response;
  request.set_target(peer.target());
  EXPECT_EQ(Ask(request, &response), "OK");
  ASSERT_EQ(response.targets_size(), 1);
  EXPECT_EQ(response.targets(0).counters().executes(), 1);
  // Its one wait was a dial; below the first bound only that is known.
  EXPECT_EQ(response.targets(0).acquire_wait().least().nanos(), 50'000);
}

}  // namespace
}  // namespace hotline::server
