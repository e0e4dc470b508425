#include "upstream/connection/liveness.h"

#include <chrono>
#include <utility>

#include "gtest/gtest.h"

namespace hotline::upstream {
namespace {

using Action = Liveness::Action;
using std::chrono::seconds;

constexpr Instant kStart = Instant{} + seconds(1000);

Instant At(int second) { return kStart + seconds(second); }

// PING after 20 s of silence, 5 s for the answer; a call runs from second 0 on.
class LivenessTest : public ::testing::Test {
 protected:
  LivenessTest() { liveness_.OnFirstCall(kStart); }

  Liveness liveness_{seconds(20), seconds(5)};
};

TEST_F(LivenessTest, ASilentPeerIsPingedAndThenGivenUp) {
  EXPECT_EQ(liveness_.Due(/*busy=*/true), At(20));
  EXPECT_EQ(liveness_.Check(true, At(19)), Action::kNone);
  EXPECT_EQ(liveness_.Check(true, At(20)), Action::kPing);
  EXPECT_EQ(liveness_.Due(true), At(25));
  EXPECT_EQ(liveness_.Check(true, At(24)), Action::kNone);
  EXPECT_EQ(liveness_.Check(true, At(25)), Action::kGiveUp);
}

TEST_F(LivenessTest, AnyByteIsASignOfLife) {
  liveness_.OnReceived(At(10));
  EXPECT_EQ(liveness_.Due(true), At(30));
  EXPECT_EQ(liveness_.Check(true, At(30)), Action::kPing);
  liveness_.OnReceived(At(31));
  EXPECT_EQ(liveness_.Due(true), At(51));
  EXPECT_EQ(liveness_.Check(true, At(35)), Action::kNone);
}

TEST_F(LivenessTest, SilenceOfAnIdleConnectionDoesNotCount) {
  EXPECT_EQ(liveness_.Due(/*busy=*/false), kNever);
  EXPECT_EQ(liveness_.Check(false, At(3600)), Action::kNone);
  liveness_.OnFirstCall(At(3600));
  EXPECT_EQ(liveness_.Due(true), At(3620));
}

TEST_F(LivenessTest, WithoutPingsSilenceIsNeverDue) {
  Liveness silent(Liveness::kForever, seconds(5));
  silent.OnFirstCall(kStart);
  EXPECT_EQ(silent.Due(true), kNever);
  EXPECT_EQ(silent.Check(true, At(1'000'000)), Action::kNone);
}

TEST_F(LivenessTest, AProbeFailsAtItsDeadline) {
  Liveness::Answer answer = [](bool) {};
  EXPECT_TRUE(liveness_.Probe(At(3), answer));
  EXPECT_EQ(liveness_.Due(/*busy=*/false), At(3));
  // Bytes received do not answer it.
  liveness_.OnReceived(At(2));
  EXPECT_EQ(liveness_.Check(false, At(2)), Action::kNone);
  EXPECT_EQ(liveness_.Check(false, At(3)), Action::kFailProbe);
}

TEST_F(LivenessTest, OneProbeRunsAtATime) {
  int first = 0;
  Liveness::Answer answer = [&first](bool alive) { first += alive ? 1 : -1; };
  EXPECT_TRUE(liveness_.Probe(At(3), answer));
  Liveness::Answer second = [](bool) {};
  EXPECT_FALSE(liveness_.Probe(At(9), second));
  EXPECT_TRUE(second) << "a refused probe keeps its answer";
  EXPECT_EQ(liveness_.Due(false), At(3));

  Liveness::Answer ended = liveness_.EndProbe();
  ASSERT_TRUE(ended);
  ended(true);
  EXPECT_EQ(first, 1);
  EXPECT_EQ(liveness_.Due(false), kNever);
  EXPECT_FALSE(liveness_.EndProbe());
  EXPECT_TRUE(liveness_.Probe(At(9), second));
}

}  // namespace
}  // namespace hotline::upstream
