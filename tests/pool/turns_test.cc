// PoolConfig::effects_per_turn: how much a thread carries out for others.
#include <algorithm>
#include <map>

#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class TurnsTest : public PoolTest {
 protected:
  TurnsTest() {
    config_.effects_per_turn = 4;
    config_.max_connections = 1000;
    target_.max_streams = 1000;
    target_.max_dials = 1;
  }

  std::vector<Caller*> Wait(int count, const Ask& ask = {}) {
    std::vector<Caller*> callers;
    for (int i = 0; i < count; ++i) callers.push_back(&Acquire(ask));
    return callers;
  }
  static size_t Ended(const std::vector<Caller*>& callers) {
    return std::count_if(callers.begin(), callers.end(),
                         [](const Caller* c) { return !c->waiting(); });
  }
  // Runs the next tick that was asked for, which is due now.
  void TickNow() {
    ASSERT_TRUE(transport_.wakes.contains(0));
    ASSERT_LE(transport_.wakes[0], now_);
    Pass(Duration(0));
  }
};

TEST_F(TurnsTest, AThreadCarriesOutItsShareAndLeavesTheRestInOrder) {
  const auto callers = Wait(20);
  ASSERT_EQ(dials(), 1u);
  const ConnId id = transport_.dials.front().id;
  transport_.dials.pop_front();
  pool().Dialed(id, {.max_streams = 100, .timings = {}}, now_);
  EXPECT_EQ(Ended(callers), 4u);
  for (size_t ended = 4; ended < 20; ended += 4) {
    ASSERT_EQ(Ended(callers), ended);
    for (size_t i = 0; i < 20; ++i) {
      EXPECT_EQ(callers[i]->granted(), i < ended) << i;
    }
    // Any event continues, a tick among others.
    pool().Tick(0, now_);
  }
  EXPECT_EQ(Ended(callers), 20u);
}

TEST_F(TurnsTest, TheTickAskedForFinishesTheRest) {
  const auto callers = Wait(20);
  Dialed(100);
  ASSERT_LT(Ended(callers), 20u);
  TickNow();
  EXPECT_EQ(Ended(callers), 20u);
}

TEST_F(TurnsTest, ADecidedGrantCannotBeCancelled) {
  const auto callers = Wait(20);
  Dialed(100);
  Caller& last = *callers.back();
  ASSERT_TRUE(last.waiting());
  EXPECT_FALSE(pool().Cancel(last.id, now_));
  Pass(Duration(0));
  EXPECT_TRUE(last.granted());
}

TEST_F(TurnsTest, AShutdownRejectsAllWaitersInTurns) {
  target_.max_connections = 1;
  Lent();
  const auto callers = Wait(50);
  pool().Shutdown(now_);
  EXPECT_EQ(Ended(callers), 4u);
  Pass(Duration(0));
  EXPECT_EQ(Ended(callers), 50u);
}

TEST_F(TurnsTest, BudgetTokensAreDeliveredInTurns) {
  config_.shards = 4;
  config_.max_connections = 10;
  target_.max_connections = 1;
  target_.expected_streams = 1;
  std::vector<std::string> names;
  for (int i = 0; i < 40; ++i) {
    names.push_back("https://" + std::to_string(i) + ".test:443");
  }
  for (const std::string& name : names) Acquire({.target = name.c_str()});
  Pass(Duration(0));
  EXPECT_EQ(dials(), 10u);
  config_.max_connections = 40;
  pool().Reconfigure(config_, now_);
  EXPECT_LT(dials(), 40u);
  Pass(Duration(0));
  EXPECT_EQ(dials(), 40u);
}

}  // namespace
}  // namespace hotline::pool
