#include "server/admin/explain.h"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "server/admin/explain_facts.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kTarget[] = "https://a.test:443";

class ExplainTest : public ::testing::Test {
 protected:
  ExplainTest() {
    snapshot_.max_connections = 100;
    snapshot_.targets.emplace_back();
    row().target = kTarget;
    row().max_connections = 2;
  }

  pool::TargetRow& row() { return snapshot_.targets[0]; }

  // A lease of Acquire, between calls; without a time to live: a call's.
  pool::LeaseRow& Lend(const std::string& client_id, Duration age,
                       bool in_call) {
    pool::LeaseRow& lease = snapshot_.leases.emplace_back();
    lease.id = 500 + snapshot_.leases.size();
    lease.holder.client_id = client_id;
    lease.age = age;
    if (!in_call) lease.remaining = seconds(10);
    ++row().leases;
    ++row().connections[static_cast<int>(pool::ConnState::kReady)];
    return lease;
  }

  // The causes, in order.
  std::vector<std::string> Causes() {
    response_.Clear();
    Explain({.target = kTarget,
             .settings = settings_,
             .snapshot = snapshot_,
             .addresses = addresses_,
             .stray_bytes = stray_bytes_,
             .events = events_,
             .loop_lag = loop_lag_,
             .broker_drained = broker_drained_,
             .now = Instant{} + seconds(1000),
             .time = std::chrono::system_clock::time_point{} + seconds(1000)},
            &response_);
    std::vector<std::string> causes;
    for (const v1::Finding& finding : response_.findings()) {
      EXPECT_NE(finding.text(), "");
      EXPECT_NE(finding.advice(), "");
      causes.push_back(finding.cause());
    }
    return causes;
  }

  // It happened `ago`.
  void Happened(v1::EventKind kind, std::string_view reason,
                Duration ago = seconds(5)) {
    events_.push_back(std::make_shared<const Event>(Event{
        .kind = kind,
        .reason = reason,
        .time =
            std::chrono::system_clock::time_point{} + seconds(1000) - ago}));
  }

  std::string Text(int finding = 0) const {
    return response_.findings(finding).text();
  }

  using List = std::vector<std::string>;

  Settings settings_ = DefaultSettings(2);
  pool::Snapshot snapshot_;
  std::vector<upstream::AddressRow> addresses_;
  std::string stray_bytes_;
  std::vector<EventPtr> events_;
  Duration loop_lag_{0};
  bool broker_drained_ = false;
  v1::ExplainResponse response_;
};

TEST_F(ExplainTest, AHealthyTargetHasNoFindings) {
  Lend("a", milliseconds(900), true);
  EXPECT_EQ(Causes(), List{});
  EXPECT_EQ(response_.summary(), "nothing is wrong");
  EXPECT_GT(response_.facts_size(), 5);
}

TEST_F(ExplainTest, AnUnknownTargetSaysSo) {
  snapshot_.targets.clear();
  EXPECT_EQ(Causes(), List{});
  EXPECT_EQ(response_.summary(), "nothing was asked of this target yet");
}

TEST_F(ExplainTest, AnOperatorsStateComesFirst) {
  row().admission = pool::Admission::kPaused;
  row().waiters = 3;
  row().last_dial_error = "refused";
  row().last_dial_reason = "CONNECT_FAILED";
  EXPECT_EQ(Causes(), (List{"PAUSED", "CONNECT_FAILED"}));
  EXPECT_EQ(Text(), "an operator paused the target: 3 callers waiting");
  row().admission = pool::Admission::kDrained;
  EXPECT_EQ(Causes().front(), "DRAINED");
}

TEST_F(ExplainTest, ADrainedBrokerComesBeforeTheTarget) {
  broker_drained_ = true;
  row().admission = pool::Admission::kPaused;
  EXPECT_EQ(Causes(), (List{"BROKER_DRAINED", "PAUSED"}));
}

TEST_F(ExplainTest, FailedDialsAreNamedByTheirReason) {
  for (const char* reason :
       {"DNS_FAILED", "CONNECT_FAILED", "PROXY_REFUSED", "TLS_FAILED",
        "TLS_VERIFY_FAILED", "ALPN_MISMATCH", "VALIDATION_FAILED",
        "EGRESS_DENIED", "ADDRESS_BLOCKED"}) {
    row().last_dial_error = "what the library said";
    row().last_dial_reason = reason;
    EXPECT_EQ(Causes(), List{reason});
    EXPECT_NE(Text().find("what the library said"), std::string::npos);
  }
}

TEST_F(ExplainTest, AnOpenBreakerFollowsItsCause) {
  row().last_dial_error = "refused";
  row().last_dial_reason = "CONNECT_FAILED";
  row().breaker = pool::BreakerState::kOpen;
  row().failures_in_a_row = 10;
  row().breaker_open_for = milliseconds(1500);
  EXPECT_EQ(Causes(), (List{"CONNECT_FAILED", "CIRCUIT_OPEN"}));
  EXPECT_EQ(Text(1),
            "10 dials failed in a row: none is made for another 1.5 s");
}

TEST_F(ExplainTest, SlowDialsNameTheirSlowestPhase) {
  row().dial_time = milliseconds(1500);
  row().counters.dial_resolve.Record(milliseconds(1400));
  row().counters.dial_tls.Record(milliseconds(100));
  EXPECT_EQ(Causes(), List{});  // None was made lately.
  Happened(v1::EVENT_KIND_READY, "");
  EXPECT_EQ(Causes(), List{"DIALS_SLOW"});
  EXPECT_EQ(Text(), "a dial takes 1.5 s, most of it for resolving the name");
}

TEST_F(ExplainTest, ConnectionsThatDropOftenAreAFinding) {
  Happened(v1::EVENT_KIND_CLOSED, "peer_closed", seconds(61));
  Happened(v1::EVENT_KIND_CLOSED, "idle");
  Happened(v1::EVENT_KIND_CLOSED, "peer_closed");
  Happened(v1::EVENT_KIND_CLOSED, "error");
  EXPECT_EQ(Causes(), List{});
  Happened(v1::EVENT_KIND_CLOSED, "peer_closed");
  EXPECT_EQ(Causes(), List{"CONNECTIONS_DROP"});
  EXPECT_EQ(Text(),
            "3 of the last 4 connections that closed were ended by the "
            "upstream");
  row().keep_alive_learned = seconds(2);
  EXPECT_EQ(Causes(), List{"IDLE_LIMIT"});
  EXPECT_EQ(Text(),
            "the upstream closes idle connections after 2 s: 3 of the last 4 "
            "connections that closed were ended by the upstream");
}

TEST_F(ExplainTest, ALeakNamesItsHolder) {
  pool::LeaseRow& leaked =
      Lend("worker-7", settings_.pool.leak_after + seconds(5), false);
  leaked.holder.purpose = "batch";
  Lend("web", seconds(1), false);
  EXPECT_EQ(Causes(), List{"LEAK"});
  EXPECT_EQ(Text(),
            "1 lease held for longer than 60 s without a call: worker-7 "
            "(batch) for 65 s (lease number 501)");
  ASSERT_EQ(response_.holdings_size(), 2);
  EXPECT_EQ(response_.holdings(0).client_id(), "worker-7");
  EXPECT_EQ(response_.holdings(0).lease_number(), 501u);
}

TEST_F(ExplainTest, AFullPoolNamesWhoHoldsIt) {
  Lend("web", seconds(3), false);
  Lend("api", seconds(2), false);
  EXPECT_EQ(Causes(), List{});  // No caller waits.
  row().waiters = 4;
  EXPECT_EQ(Causes(), List{"POOL_FULL"});
  EXPECT_EQ(Text(),
            "all 2 connections that the target may have are in use, and 4 "
            "callers waiting; held without a call by web for 3 s, api for 2 s");
  row().waiters = settings_.default_target.pool.max_waiters;
  EXPECT_EQ(Causes(), (List{"QUEUE_FULL", "POOL_FULL"}));
}

TEST_F(ExplainTest, ASlowUpstreamExplainsAFullPool) {
  Lend("", seconds(12), true);
  Lend("", seconds(3), true);
  row().waiters = 1;
  EXPECT_EQ(Causes(), (List{"UPSTREAM_SLOW", "POOL_FULL"}));
  EXPECT_EQ(Text(),
            "2 of 2 slots in use have run a call for longer than 1 s, the "
            "longest: a call without a lease for 12 s, a call without a lease "
            "for 3 s");
}

TEST_F(ExplainTest, AnUpstreamIsSlowWithoutAFullPool) {
  Lend("", seconds(4), true);
  EXPECT_EQ(Causes(), List{"UPSTREAM_SLOW"});
  // A tunnel may last.
  snapshot_.leases[0].mode = pool::Mode::kExclusive;
  EXPECT_EQ(Causes(), List{});
}

TEST_F(ExplainTest, AFullBrokerIsNotTheTargetsFault) {
  row().waiters = 1;
  snapshot_.connections_reserved = snapshot_.max_connections;
  EXPECT_EQ(Causes(), List{"BROKER_FULL"});
}

TEST_F(ExplainTest, AQuarantineShowsTheStrayBytes) {
  row().no_reuse_for = seconds(200);
  stray_bytes_ = "0d0a";
  EXPECT_EQ(Causes(), List{"QUARANTINE"});
  EXPECT_NE(Text().find("hexadecimal 0d0a"), std::string::npos);
}

TEST_F(ExplainTest, AddressesOutOfServiceAreFindings) {
  addresses_.resize(2);
  addresses_[0].state = upstream::AddressState::kActive;
  addresses_[1].state = upstream::AddressState::kEjected;
  addresses_[1].why = "refused\x1b[2J";
  EXPECT_EQ(Causes(), List{"ADDRESS_OUT"});
  EXPECT_NE(Text().find("EJECTED: refused\\u001b[2J"), std::string::npos);
}

TEST_F(ExplainTest, AMissingFloorIsAFindingOnlyByItself) {
  row().floor = 4;
  row().warm_deficit = 3;
  EXPECT_EQ(Causes(), List{"NOT_WARM"});
  loop_lag_ = seconds(3);
  EXPECT_EQ(Causes(), List{"LOOP_STUCK"});
  EXPECT_EQ(response_.summary(), "LOOP_STUCK: an event loop is 3 s late");
}

TEST(InWordsTest, DurationsHaveAUnit) {
  EXPECT_EQ(InWords(milliseconds(250)), "250 ms");
  EXPECT_EQ(InWords(milliseconds(12'300)), "12.3 s");
  EXPECT_EQ(InWords(seconds(75)), "75 s");
  EXPECT_EQ(InWords(seconds(600)), "10 min");
}

}  // namespace
}  // namespace hotline::server
