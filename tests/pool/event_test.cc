// What the pool reports to operators.
#include <string>
#include <utility>
#include <vector>

#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

using Kind = PoolEvent::Kind;

class EventTest : public PoolTest {
 protected:
  EventTest() {
    on_event_ = [this](const PoolEvent& event) { events_.push_back(event); };
  }

  std::vector<Kind> Kinds() const {
    std::vector<Kind> kinds;
    for (const PoolEvent& event : events_) kinds.push_back(event.kind);
    return kinds;
  }
  // The only event of this kind.
  const PoolEvent& Only(Kind kind) const {
    const PoolEvent* found = nullptr;
    int count = 0;
    for (const PoolEvent& event : events_) {
      if (event.kind != kind) continue;
      found = &event;
      ++count;
    }
    EXPECT_EQ(count, 1);
    static const PoolEvent none;
    return found != nullptr ? *found : none;
  }

  std::vector<PoolEvent> events_;
};

TEST_F(EventTest, AConnectionsLifeIsThreeEvents) {
  Acquire();
  Pass(seconds(1));
  const ConnId id = Dialed();
  EXPECT_EQ(Kinds(), (std::vector<Kind>{Kind::kDialing, Kind::kReady}));
  Pass(seconds(2));
  Closed(id);
  ASSERT_EQ(Kinds(),
            (std::vector<Kind>{Kind::kDialing, Kind::kReady, Kind::kClosed}));
  for (const PoolEvent& event : events_) {
    EXPECT_EQ(event.key->target, kA);
    EXPECT_EQ(event.conn, id);
  }
  EXPECT_EQ(events_[1].length, seconds(1));
  EXPECT_EQ(events_[2].closed, CloseReason::kPeerClosed);
  EXPECT_EQ(events_[2].uses, 1u);
  EXPECT_EQ(events_[2].length, seconds(2));
}

TEST_F(EventTest, CallsThatGoWellAreNoEvents) {
  const ConnId id = Idle();
  events_.clear();
  for (int i = 0; i < 10; ++i) {
    Caller& caller = Acquire();
    EXPECT_EQ(caller.conn(), id);
    BeginCall(caller.lease());
    EndCall(caller.lease());
    Release(caller);
  }
  EXPECT_TRUE(events_.empty());
}

TEST_F(EventTest, TheReasonOfACloseIsThePoolsOwn) {
  const ConnId id = Idle();
  EXPECT_TRUE(pool().Evict(id, /*at_once=*/true, now_));
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
  Closed(id, CloseReason::kError);
  EXPECT_EQ(Only(Kind::kClosed).closed, CloseReason::kOperator);
}

TEST_F(EventTest, AFailedDialHasItsReason) {
  Acquire();
  DialFailed(FailureClass::kTls, "TLS_VERIFY_FAILED");
  const PoolEvent& event = Only(Kind::kDialFailed);
  EXPECT_STREQ(event.reason, "TLS_VERIFY_FAILED");
  EXPECT_EQ(event.error, "refused by the test");
  EXPECT_NE(event.conn, 0u);
}

TEST_F(EventTest, AConnectionThatEndsOnProbationIsAFailedDial) {
  Caller& caller = Lent();
  ClosedEarly(caller.conn());
  EXPECT_EQ(Only(Kind::kDialFailed).error, early_.message);
  EXPECT_EQ(Only(Kind::kClosed).conn, caller.conn());
}

TEST_F(EventTest, TheBreakerReportsItsLastError) {
  target_.breaker_failures = 1;
  Acquire();
  DialFailed();
  const PoolEvent& event = Only(Kind::kBreaker);
  EXPECT_EQ(event.breaker, BreakerState::kOpen);
  EXPECT_EQ(event.failures, 1);
  EXPECT_EQ(event.error, "refused by the test");
  EXPECT_EQ(event.length, target_.breaker_open_for);
}

TEST_F(EventTest, AQuarantineIsReportedOnce) {
  target_.desync_limit = 1;
  Closed(Idle(), CloseReason::kUnsolicited);
  EXPECT_GT(Only(Kind::kQuarantine).length, Duration(0));
}

TEST_F(EventTest, LeasesThatGoWrongNameTheirHolder) {
  Lent({.ttl = seconds(5), .client = "alice"});
  Pass(seconds(6));
  const PoolEvent& expired = Only(Kind::kLeaseExpired);
  EXPECT_EQ(expired.holder->client_id, "alice");
  EXPECT_GE(expired.length, seconds(5));
  Caller& gone = Lent({.client = "bob"});
  CallTag running = 0;
  EXPECT_EQ(pool().Reclaim(gone.lease(), now_, &running), LeaseStatus::kOk);
  EXPECT_EQ(Only(Kind::kLeaseReclaimed).holder->client_id, "bob");
}

}  // namespace
}  // namespace hotline::pool
