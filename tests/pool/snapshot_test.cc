// Snapshots, which are taken a page of rows at a time.
#include <algorithm>
#include <set>

#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class SnapshotTest : public PoolTest {
 protected:
  SnapshotTest() {
    config_.max_connections = target_.max_connections = 2000;
    config_.max_dials = target_.max_dials = 2000;
  }
};

TEST_F(SnapshotTest, TargetsHaveOneRowEachInOrderOfArrival) {
  std::vector<std::string> names;
  for (int i = 0; i < 200; ++i) {
    names.push_back("https://" + std::to_string(i) + ".test:443");
    Acquire({.target = names.back().c_str()});
  }
  const Snapshot snapshot = Take();
  ASSERT_EQ(snapshot.targets.size(), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(snapshot.targets[i].target, names[i]);
  }
}

TEST_F(SnapshotTest, ConnectionsAndLeasesHaveOneRowEach) {
  std::set<ConnId> lent;
  for (int i = 0; i < 700; ++i) {
    lent.insert(Lent({.target = i % 2 == 0 ? kA : kB}).conn());
  }
  const Snapshot snapshot = Take(true);
  std::set<ConnId> connections;
  std::set<ConnId> leases;
  for (const auto& row : snapshot.connections) connections.insert(row.id);
  for (const auto& row : snapshot.leases) leases.insert(row.conn);
  EXPECT_EQ(snapshot.connections.size(), 700u);
  EXPECT_EQ(snapshot.leases.size(), 700u);
  EXPECT_EQ(connections, lent);
  EXPECT_EQ(leases, lent);
}

TEST_F(SnapshotTest, ARequestForOneTargetReturnsItsRowsOnly) {
  for (int i = 0; i < 300; ++i) Lent({.target = i % 3 == 0 ? kA : kB});
  SnapshotRequest request;
  request.target = kA;
  request.connections = request.leases = true;
  const Snapshot snapshot = pool().TakeSnapshot(request, now_);
  ASSERT_EQ(snapshot.targets.size(), 1u);
  EXPECT_EQ(snapshot.targets[0].target, kA);
  EXPECT_EQ(snapshot.connections.size(), 100u);
  EXPECT_EQ(snapshot.leases.size(), 100u);
  for (const auto& row : snapshot.leases) EXPECT_EQ(row.target, kA);
  request.target = "https://unknown.test:443";
  EXPECT_TRUE(pool().TakeSnapshot(request, now_).targets.empty());
}

}  // namespace
}  // namespace hotline::pool
