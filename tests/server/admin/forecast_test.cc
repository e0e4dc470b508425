#include "server/admin/forecast.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::seconds;
using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::ScriptedPeer;

constexpr char kTarget[] = "https://a.test:443";

Settings Parse(const std::string& yaml) {
  auto settings = ParseConfig(yaml, "test.yaml", /*cores=*/2);
  EXPECT_TRUE(settings.ok()) << settings.status();
  return *std::move(settings);
}

// A snapshot by hand.
class ForecastTest : public ::testing::Test {
 protected:
  ForecastTest() {
    snapshot_.max_connections = 100;
    snapshot_.targets.emplace_back();
    row().target = kTarget;
  }

  pool::TargetRow& row() { return snapshot_.targets[0]; }

  pool::ConnectionRow& Connect(int slots = 1) {
    pool::ConnectionRow& conn = snapshot_.connections.emplace_back();
    conn.key.target = kTarget;
    conn.state = pool::ConnState::kReady;
    conn.limit = slots;
    ++snapshot_.connections_reserved;
    ++row().connections[static_cast<int>(pool::ConnState::kReady)];
    return conn;
  }
  void Idle(int count, Duration idle = seconds(1)) {
    for (int i = 0; i < count; ++i) Connect().idle = idle;
    row().idle += count;
  }
  // Slots of connections with one slot each.
  void Lend(int count, uint64_t owner = 0) {
    for (int i = 0; i < count; ++i) {
      Connect();
      pool::LeaseRow& lease = snapshot_.leases.emplace_back();
      lease.target = kTarget;
      lease.owner = owner;
      lease.remaining = seconds(10);
    }
    row().leases += count;
  }

  const v1::UpdateConfigResponse& Ask(const std::string& before,
                                      const std::string& after) {
    const Settings old = Parse(before);
    const Settings now = Parse(after);
    response_.Clear();
    Forecast({.before = old,
              .after = now,
              .snapshot = snapshot_,
              .calls = calls_,
              .owner_name =
                  [](uint64_t owner) { return absl::StrCat("uid:", owner); },
              .addresses = [this](const std::string&) { return addresses_; }},
             &response_);
    return response_;
  }
  // The only consequence.
  v1::Consequence Only(const std::string& before, const std::string& after) {
    Ask(before, after);
    EXPECT_EQ(response_.consequences_size(), 1) << response_.ShortDebugString();
    return response_.consequences_size() == 1 ? response_.consequences(0)
                                              : v1::Consequence();
  }
  static bool Says(const v1::Consequence& one, const std::string& text) {
    return std::any_of(
        one.notes().begin(), one.notes().end(),
        [&](const std::string& note) { return absl::StrContains(note, text); });
  }

  pool::Snapshot snapshot_;
  int calls_ = 0;
  std::vector<upstream::AddressRow> addresses_;
  v1::UpdateConfigResponse response_;
};

TEST_F(ForecastTest, WhatChangesNothingHasNoConsequence) {
  Idle(3);
  Lend(2);
  EXPECT_EQ(Ask("", "").consequences_size(), 0);
  EXPECT_EQ(Ask("", "shutdown_grace: 7s").consequences_size(), 0);
  EXPECT_EQ(
      Ask("", "pool: {max_connections_per_target: 5}").consequences_size(), 0);
}

TEST_F(ForecastTest, ALowerLimitClosesIdleConnectionsFirst) {
  Idle(3);
  Lend(4);
  const auto one = Only("", "pool: {max_connections_per_target: 2}");
  EXPECT_EQ(one.target(), kTarget);
  EXPECT_EQ(one.closed(), 3);
  EXPECT_EQ(one.closed_when_free(), 2);
  EXPECT_EQ(one.queued(), 2);
  EXPECT_EQ(one.refused(), 0);
  EXPECT_TRUE(Says(one, "max_connections 10 -> 2")) << one.ShortDebugString();
}

TEST_F(ForecastTest, TheQueuesNewLimitRefusesTheRest) {
  Lend(4);
  row().waiters = 8;
  const auto one = Only(
      "", "pool: {max_connections_per_target: 1, max_waiters_per_target: 5}");
  EXPECT_EQ(one.queued(), 11);
  EXPECT_EQ(one.refused(), 6);
}

TEST_F(ForecastTest, SlotsOfAMultiplexedConnectionServeManyCallers) {
  Connect(/*slots=*/100);
  row().leases = 50;
  EXPECT_EQ(
      Ask("", "pool: {max_connections_per_target: 1}").consequences_size(), 0);
}

TEST_F(ForecastTest, AHigherLimitDialsForTheCallersThatWait) {
  Lend(10);
  row().waiters = 5;
  const auto one = Only("", "pool: {max_connections_per_target: 13}");
  EXPECT_EQ(one.dialled(), 3);
  EXPECT_EQ(one.queued(), 0);
}

TEST_F(ForecastTest, AHigherFloorIsDialledUnlessTheTargetIsDrained) {
  Idle(1);
  row().connections[static_cast<int>(pool::ConnState::kDialing)] = 1;
  const std::string after = "targets: [{target: 'https://a.test', warm: 4}]";
  EXPECT_EQ(Only("", after).dialled(), 2);
  row().admission = pool::Admission::kDrained;
  EXPECT_EQ(Ask("", after).consequences_size(), 0);
}

TEST_F(ForecastTest, ANewTargetDialsItsFloor) {
  const auto one = Only("", "targets: [{target: 'https://new.test', warm: 3}]");
  EXPECT_EQ(one.target(), "https://new.test:443");
  EXPECT_EQ(one.dialled(), 3);
}

TEST_F(ForecastTest, AShorterIdleTimeoutNamesWhatIsPastIt) {
  Idle(2, seconds(30));
  Idle(1, seconds(2));
  const auto one = Only("", "pool: {idle_timeout: 20s}");
  EXPECT_EQ(one.closed(), 0);
  EXPECT_TRUE(Says(one, "2 connections idle for longer"));
}

TEST_F(ForecastTest, HoldersThatThePolicyWouldNotAllowAreCounted) {
  Lend(2, /*owner=*/7);
  Lend(1, /*owner=*/8);
  const auto one =
      Only("", "policy: {default: deny, rules: [{identities: ['uid:8']}]}");
  EXPECT_EQ(one.refused(), 2);
  EXPECT_TRUE(Says(one, "NOT_AUTHORIZED"));
}

TEST_F(ForecastTest, AddressesThatEgressWouldDenyAreNamed) {
  upstream::AddressRow& address = addresses_.emplace_back();
  address.address = *IpAddress::Parse("192.88.98.1");
  address.connections = 2;
  const auto one = Only("", "egress: {deny: ['192.88.98.0/24']}");
  EXPECT_TRUE(Says(one, "egress would deny 1 of 1 address (egress.deny"))
      << one.ShortDebugString();
}

TEST_F(ForecastTest, ConnectionsKeepWhatTheyWereDialledWith) {
  Idle(2);
  const auto one = Only("", "upstream: {tls_profile: modern}");
  EXPECT_TRUE(Says(one, "hotline reconnect")) << one.ShortDebugString();
}

TEST_F(ForecastTest, TheBrokersLimitClosesIdleConnectionsOfAnyTarget) {
  Idle(6);
  Lend(2);
  Ask("", "pool: {max_connections: 5, max_connections_per_target: 5}");
  ASSERT_EQ(response_.consequences_size(), 1) << "the target's limit suffices";
  Ask("pool: {max_connections: 10}", "pool: {max_connections: 5}");
  const v1::Consequence& broker = response_.consequences(0);
  EXPECT_EQ(broker.target(), "");
  EXPECT_EQ(broker.closed(), 3);
  EXPECT_EQ(broker.closed_when_free(), 0);
}

TEST_F(ForecastTest, CallsAboveTheirNewLimitAreRefused) {
  calls_ = 30;
  const auto one = Only("", "overload: {max_calls: 20}");
  EXPECT_EQ(one.target(), "");
  EXPECT_EQ(one.refused(), 10);
}

TEST_F(ForecastTest, TheListOfTargetsIsBounded) {
  snapshot_.targets.clear();
  for (int i = 0; i < 1200; ++i) {
    pool::TargetRow& row = snapshot_.targets.emplace_back();
    row.target = absl::StrCat("https://", i, ".test:443");
    row.connections[static_cast<int>(pool::ConnState::kReady)] = row.idle = 2;
  }
  Ask("", "pool: {max_connections_per_target: 1}");
  EXPECT_EQ(response_.consequences_size(), 1001);
  EXPECT_TRUE(Says(response_.consequences(0), "200 more targets"));
}

// What a real pool then does.
class ForecastedPoolTest : public BrokerTest {
 protected:
  // The forecast; then the change is made.
  v1::Consequence Change(const std::string& target, const std::string& yaml) {
    const Settings after = Parse(yaml);
    pool::SnapshotRequest wanted;
    wanted.connections = true;
    wanted.leases = true;
    const pool::Snapshot snapshot = pool_->TakeSnapshot(wanted, MonotonicNow());
    v1::UpdateConfigResponse response;
    Forecast({.before = before_,
              .after = after,
              .snapshot = snapshot,
              .calls = 0,
              .owner_name = [](uint64_t) { return std::string(); },
              .addresses =
                  [this](const std::string& of) {
                    return upstream_->Addresses(of);
                  }},
             &response);
    target_config_ = after.PoolFor(target);
    pool_->Reconfigure(pool_config_, MonotonicNow());
    return response.consequences_size() == 1 ? response.consequences(0)
                                             : v1::Consequence();
  }
  static int Shrunk(const pool::Snapshot& snapshot) {
    return static_cast<int>(
        snapshot.targets.at(0)
            .counters.closed[static_cast<int>(pool::CloseReason::kShrunk)]);
  }

  const Settings before_ = Parse("");
};

TEST_F(ForecastedPoolTest, ClosesAsManyConnectionsAsWereForecast) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  std::vector<std::string> leases;
  for (int i = 0; i < 5; ++i) {
    auto acquired = Acquire(peer.target());
    ASSERT_EQ(acquired->Wait(), "OK");
    leases.push_back(acquired->response.lease().lease_id());
  }
  ASSERT_EQ(Release(leases[0]), "OK");
  ASSERT_EQ(Release(leases[1]), "OK");
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets.at(0).idle == 2;
  }));
  const auto forecast =
      Change(peer.target(), "pool: {max_connections_per_target: 2}");
  EXPECT_EQ(forecast.closed(), 2);
  EXPECT_EQ(forecast.closed_when_free(), 1);
  EXPECT_EQ(forecast.queued(), 1);
  EXPECT_TRUE(Eventually(
      [](const pool::Snapshot& snapshot) { return Shrunk(snapshot) == 2; }));
  for (size_t i = 2; i < leases.size(); ++i) {
    EXPECT_EQ(Release(leases[i]), "OK");
  }
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return Shrunk(snapshot) == 3 && snapshot.targets.at(0).idle == 2;
  }));
}

TEST_F(ForecastedPoolTest, DialsAsManyConnectionsAsWereForecast) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets.at(0).idle == 1;
  }));
  const auto forecast = Change(
      peer.target(),
      absl::StrCat("targets: [{target: '", peer.target(), "', warm: 4}]"));
  EXPECT_EQ(forecast.dialled(), 3);
  EXPECT_TRUE(hotline::Eventually([&] { return peer.accepted() == 4; }));
}

}  // namespace
}  // namespace hotline::server
