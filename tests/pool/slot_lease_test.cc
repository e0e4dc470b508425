// SlotLease: a slot is given back exactly once.
#include "pool/slot_lease.h"

#include <type_traits>
#include <utility>

#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

static_assert(!std::is_copy_constructible_v<SlotLease>);
static_assert(!std::is_copy_assignable_v<SlotLease>);
static_assert(std::is_nothrow_move_constructible_v<SlotLease>);
static_assert(std::is_nothrow_move_assignable_v<SlotLease>);

// The clock of the destructor, which takes no argument.
Instant clock_now{};
int clock_reads = 0;

class SlotLeaseTest : public PoolTest {
 protected:
  SlotLeaseTest() {
    target_.max_connections = 1;
    clock_reads = 0;
  }
  static Instant Clock() {
    ++clock_reads;
    return clock_now;
  }
  SlotLease Granted(Outcome dropped = Outcome::kOk) {
    clock_now = now_;
    return SlotLease(&pool(), Lent().grant(), dropped, &Clock);
  }
  // A call on a lease that `holder` keeps.
  SlotLease Call(const Caller& holder) {
    clock_now = now_;
    return SlotLease(&pool(), holder.lease(), BeginCall(holder.lease()),
                     &Clock);
  }
};

TEST_F(SlotLeaseTest, OwnsNothingByDefault) {
  SlotLease none;
  EXPECT_FALSE(none.owns());
  none.Release(Outcome::kOk, now_);
}

TEST_F(SlotLeaseTest, ShowsTheFactsOfItsSlot) {
  Idle();
  Pass(seconds(1));
  Caller& caller = Lent();
  SlotLease slot(&pool(), caller.grant(), Outcome::kOk, &Clock);
  EXPECT_TRUE(slot.owns());
  EXPECT_FALSE(slot.is_call());
  EXPECT_EQ(slot.lease(), caller.lease());
  EXPECT_EQ(slot.conn(), caller.conn());
  EXPECT_EQ(slot.uses(), 1u);
  EXPECT_EQ(slot.ready_since(), caller.grant().ready_since);
  slot.Release(Outcome::kOk, now_);
  EXPECT_EQ(slot.lease(), caller.lease()) << "also after its end";
}

TEST_F(SlotLeaseTest, ReleaseGivesTheSlotBackOnce) {
  {
    SlotLease slot = Granted(Outcome::kDiscard);
    slot.Release(Outcome::kOk, now_);
    EXPECT_FALSE(slot.owns());
    EXPECT_EQ(Row().leases, 0);
    Lent();  // In the same record, which must stay untouched.
    slot.Release(Outcome::kBroken, now_);
  }
  EXPECT_EQ(clock_reads, 0);
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(closes(), 0u);
}

TEST_F(SlotLeaseTest, TheDestructorGivesTheSlotBackWithItsOutcome) {
  { SlotLease slot = Granted(Outcome::kOk); }
  EXPECT_EQ(Row().idle, 1);
  { SlotLease slot = Granted(Outcome::kDiscard); }
  EXPECT_EQ(OnlyClose(), CloseReason::kDiscarded);
  CloseAll();
  { SlotLease slot = Granted(Outcome::kBroken); }
  EXPECT_EQ(OnlyClose(), CloseReason::kBroken);
  EXPECT_EQ(clock_reads, 3);
}

TEST_F(SlotLeaseTest, TheDestructorUsesTheTimeOfItsEnd) {
  Caller* late = nullptr;
  Caller* next = nullptr;
  {
    SlotLease slot = Granted();
    late = &Acquire({.wait = seconds(1)});
    next = &Acquire({.wait = seconds(9)});
    clock_now = now_ += seconds(2);
  }
  EXPECT_TRUE(late->rejected()) << "its deadline has passed";
  EXPECT_TRUE(next->granted());
  EXPECT_EQ(Counters().lease.total(), 1u);
  EXPECT_GE(Counters().lease.sum(), seconds(2));
}

TEST_F(SlotLeaseTest, AMoveTransfersTheSlot) {
  SlotLease slot = Granted();
  {
    SlotLease inner = std::move(slot);
    EXPECT_FALSE(slot.owns());
    EXPECT_TRUE(inner.owns());
    slot = std::move(inner);
    EXPECT_FALSE(inner.owns());
  }
  EXPECT_EQ(Row().leases, 1) << "the moved-from ones gave nothing back";
  slot.Release(Outcome::kOk, now_);
  EXPECT_EQ(Row().leases, 0);
}

TEST_F(SlotLeaseTest, AMoveGivesTheOverwrittenSlotBack) {
  target_.max_connections = 2;
  SlotLease first = Granted(Outcome::kDiscard);
  SlotLease second = Granted();
  const ConnId kept = second.conn();
  first = std::move(second);
  EXPECT_EQ(OnlyClose(), CloseReason::kDiscarded);
  EXPECT_EQ(first.conn(), kept);
  EXPECT_EQ(Row().leases, 1);
}

TEST_F(SlotLeaseTest, DetachLeavesTheLeaseToItsReceiver) {
  LeaseId lease;
  {
    SlotLease slot = Granted();
    lease = slot.Detach();
    EXPECT_FALSE(slot.owns());
  }
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(Release(lease), LeaseStatus::kOk);
}

TEST_F(SlotLeaseTest, ACallEndsAndItsLeaseGoesOn) {
  Caller& holder = Lent();
  {
    SlotLease call = Call(holder);
    EXPECT_TRUE(call.is_call());
    EXPECT_EQ(call.conn(), holder.conn());
    EXPECT_EQ(BeginCall(holder.lease()).status, LeaseStatus::kBusy);
  }
  SlotLease call = Call(holder);
  call.Release(Outcome::kBroken, now_);
  EXPECT_EQ(closes(), 0u) << "the outcome is the holder's to say";
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(Release(holder), LeaseStatus::kOk);
}

TEST_F(SlotLeaseTest, ACallEndsALeaseThatWasReleasedMeanwhile) {
  Caller& holder = Lent();
  {
    SlotLease call = Call(holder);
    EXPECT_EQ(Release(holder), LeaseStatus::kOk);
    EXPECT_EQ(Row().leases, 1);
  }
  EXPECT_EQ(Row().leases, 0);
}

}  // namespace
}  // namespace hotline::pool
