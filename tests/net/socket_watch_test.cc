#include "net/socket_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <vector>

namespace hotline::net {
namespace {

// One end of a connection in the watch, the other in the test's hands.
class Pair final : public SocketWatch::Watcher {
 public:
  Pair() {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_), 0);
  }
  ~Pair() override {
    close(ends_[0]);
    HangUp();
  }

  void OnSocketReady(bool readable, bool writable) override {
    reads += readable;
    writes += writable;
    if (on_ready) on_ready();
  }

  int watched() const { return ends_[0]; }
  void Send() { EXPECT_EQ(write(ends_[1], "x", 1), 1); }
  void Take() {
    char byte;
    EXPECT_EQ(read(ends_[0], &byte, 1), 1);
  }
  void HangUp() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }

  int reads = 0;
  int writes = 0;
  std::function<void()> on_ready;

 private:
  int ends_[2];
};

class SocketWatchTest : public ::testing::Test {
 protected:
  std::shared_ptr<Pair> Watched(SocketWatch::Token* token) {
    auto pair = std::make_shared<Pair>();
    *token = watch_.Add(pair->watched(), pair);
    return pair;
  }
  // Lets everything happen that is due.
  void Turn() {
    io_.restart();
    io_.poll();
  }

  boost::asio::io_context io_{1};
  SocketWatch watch_{io_};
};

TEST_F(SocketWatchTest, TellsForAsLongAsThereIsSomethingToRead) {
  SocketWatch::Token token;
  const auto pair = Watched(&token);
  Turn();
  EXPECT_EQ(pair->reads, 0);
  pair->Send();
  io_.restart();
  io_.poll_one();
  io_.poll_one();
  EXPECT_GE(pair->reads, 2);  // It was not taken.
  pair->on_ready = [&] { pair->Take(); };
  Turn();
  const int before = pair->reads;
  Turn();
  EXPECT_EQ(pair->reads, before);
  EXPECT_EQ(pair->writes, 0);
}

TEST_F(SocketWatchTest, TellsOnlyWhatWasAskedFor) {
  SocketWatch::Token token;
  const auto pair = Watched(&token);
  pair->Send();
  pair->on_ready = [&] { watch_.SetInterest(token, false, false); };
  watch_.SetInterest(token, false, true);
  Turn();
  EXPECT_EQ(pair->writes, 1);
  EXPECT_EQ(pair->reads, 0);
  pair->on_ready = [&] { pair->Take(); };
  watch_.SetInterest(token, true, false);
  Turn();
  EXPECT_EQ(pair->reads, 1);
}

TEST_F(SocketWatchTest, AFailureIsToldToWhoeverWaitsForAnything) {
  SocketWatch::Token token;
  const auto pair = Watched(&token);
  watch_.SetInterest(token, false, true);
  pair->HangUp();
  pair->on_ready = [&] { watch_.SetInterest(token, false, false); };
  Turn();
  EXPECT_EQ(pair->writes, 1);
  EXPECT_EQ(pair->reads, 0);
  // Who waits for nothing is left in peace, or the loop would spin.
  Turn();
  EXPECT_EQ(pair->writes, 1);
}

TEST_F(SocketWatchTest, NothingIsToldAfterRemoveNotEvenWhatWasSeen) {
  std::vector<std::shared_ptr<Pair>> pairs(2);
  std::vector<SocketWatch::Token> tokens(2);
  int told = 0;
  for (int i = 0; i < 2; ++i) pairs[i] = Watched(&tokens[i]);
  for (int i = 0; i < 2; ++i) {
    pairs[i]->on_ready = [&, i] {
      ++told;
      pairs[i]->Take();
      watch_.Remove(tokens[1 - i]);  // Both were ready in the same turn.
    };
    pairs[i]->Send();
  }
  Turn();
  EXPECT_EQ(told, 1);
}

TEST_F(SocketWatchTest, AWatcherMayEndWithItsOwnWatch) {
  SocketWatch::Token token;
  auto pair = Watched(&token);
  const std::weak_ptr<Pair> ended = pair;
  pair->on_ready = [&] {
    watch_.Remove(token);
    watch_.Remove(token);  // Twice is once.
  };
  pair->Send();
  pair.reset();
  Turn();
  EXPECT_TRUE(ended.expired());
}

TEST_F(SocketWatchTest, WhatTheKernelDoesNotTakeIsNotKept) {
  // A file cannot be waited for.
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  auto pair = std::make_shared<Pair>();
  const std::weak_ptr<Pair> kept = pair;
  EXPECT_EQ(watch_.Add(file, std::move(pair)), 0u);
  EXPECT_EQ(errno, EPERM);
  EXPECT_TRUE(kept.expired());
  close(file);
}

TEST_F(SocketWatchTest, AChangeThatTheKernelDoesNotTakeIsSaid) {
  SocketWatch::Token token;
  const auto pair = Watched(&token);
  EXPECT_TRUE(watch_.SetInterest(token, false, false));
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(dup2(file, pair->watched()), pair->watched());
  close(file);
  EXPECT_FALSE(watch_.SetInterest(token, true, false));
  EXPECT_EQ(errno, EPERM);
  watch_.Remove(token);
}

TEST_F(SocketWatchTest, FinishedItKeepsNobodyWaiting) {
  SocketWatch::Token token;
  const auto pair = Watched(&token);
  watch_.Finish();
  io_.restart();
  io_.run();  // Comes back.
}

}  // namespace
}  // namespace hotline::net
