// A wire without TLS on one end of a socket pair.
#include "net/wire.h"

#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

#include "gtest/gtest.h"

namespace hotline::net {
namespace {

class WireTest : public ::testing::Test {
 protected:
  WireTest() : WireTest(MakePair()) {}
  ~WireTest() override { ClosePeer(); }

  // Reads everything that has arrived.
  std::string Received() {
    std::string all;
    char buffer[4096];
    ssize_t size;
    while ((size = recv(peer_, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
      all.append(buffer, static_cast<size_t>(size));
    }
    return all;
  }
  void ClosePeer() {
    if (peer_ >= 0) close(std::exchange(peer_, -1));
  }

 private:
  struct Pair {
    int fds[2];
  };
  static Pair MakePair() {
    Pair pair;
    EXPECT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                            0, pair.fds));
    return pair;
  }
  explicit WireTest(Pair pair)
      : wire_(pair.fds[0], nullptr), peer_(pair.fds[1]) {}

 protected:
  Wire wire_;
  int peer_;
};

TEST_F(WireTest, BytesAreWrittenInTheOrderAppended) {
  size_t written = 0;
  wire_.plain()->append("one ");
  wire_.plain()->append("two ");
  EXPECT_FALSE(wire_.empty());
  EXPECT_EQ(wire_.Flush(&written), Wire::Result::kDone);
  EXPECT_EQ(written, 8u);
  EXPECT_TRUE(wire_.empty());
  wire_.plain()->append("three");
  EXPECT_EQ(wire_.Flush(&written), Wire::Result::kDone);
  EXPECT_EQ(written, 5u);
  EXPECT_EQ(Received(), "one two three");
}

TEST_F(WireTest, AFullSocketBlocksAndLosesNothing) {
  std::string all;
  for (int i = 0; i < 300'000; ++i) all += std::to_string(i);
  *wire_.plain() = all;
  size_t total = 0;
  std::string received;
  int blocked = 0;
  for (;;) {
    size_t written = 0;
    const Wire::Result result = wire_.Flush(&written);
    EXPECT_LE(written, Wire::kTurnBytes);
    total += written;
    received += Received();
    if (result != Wire::Result::kBlocked) {
      EXPECT_EQ(result, Wire::Result::kDone);
      break;
    }
    ++blocked;
  }
  EXPECT_GT(blocked, 1);
  EXPECT_EQ(total, all.size());
  EXPECT_EQ(received, all);
}

TEST_F(WireTest, AnIdleWireOwnsNoBuffer) {
  wire_.plain()->append(10'000, 'x');
  size_t written = 0;
  ASSERT_EQ(wire_.Flush(&written), Wire::Result::kDone);
  EXPECT_LE(wire_.plain()->capacity(), std::string().capacity());
}

TEST_F(WireTest, OnceBrokenItStaysBroken) {
  ClosePeer();
  size_t written = 0;
  wire_.plain()->append("x");
  EXPECT_EQ(wire_.Flush(&written), Wire::Result::kBroken);
  EXPECT_TRUE(wire_.broken());
  EXPECT_NE(wire_.broken_why(), "");
  wire_.plain()->append("y");
  EXPECT_EQ(wire_.Flush(&written), Wire::Result::kBroken);
  EXPECT_EQ(written, 0u);
}

TEST_F(WireTest, InputIsReadOnce) {
  std::string_view plain;
  wire_.Feed("hello");
  EXPECT_EQ(wire_.Read(nullptr, 0, &plain), TlsResult::kOk);
  EXPECT_EQ(plain, "hello");
  EXPECT_EQ(wire_.Read(nullptr, 0, &plain), TlsResult::kWantInput);
  EXPECT_FALSE(wire_.encrypted());
}

TEST_F(WireTest, PeekLooksWithoutReading) {
  EXPECT_EQ(wire_.Peek(), Wire::Pending::kNothing);
  ASSERT_EQ(send(peer_, "x", 1, 0), 1);
  EXPECT_EQ(wire_.Peek(), Wire::Pending::kBytes);
  EXPECT_EQ(wire_.Peek(), Wire::Pending::kBytes);
  char byte;
  ASSERT_EQ(recv(wire_.fd(), &byte, 1, 0), 1);
  ClosePeer();
  EXPECT_EQ(wire_.Peek(), Wire::Pending::kEnd);
}

TEST_F(WireTest, EndOutputLeavesTheInputOpen) {
  EXPECT_EQ(wire_.EndOutput(), Wire::Result::kDone);
  char byte;
  EXPECT_EQ(recv(peer_, &byte, 1, MSG_DONTWAIT), 0) << "end of file";
  ASSERT_EQ(send(peer_, "x", 1, 0), 1);
  EXPECT_EQ(wire_.Peek(), Wire::Pending::kBytes);
}

}  // namespace
}  // namespace hotline::net
