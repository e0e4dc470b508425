// WatchEvents over HTTP/2.
#include "tests/server/front/front_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::ScriptedPeer;

constexpr char kMethod[] = "/hotline.v1.Broker/WatchEvents";

class WatchEventsTest : public FrontTest {
 protected:
  static v1::WatchEventsResponse Parsed(const std::string& message) {
    v1::WatchEventsResponse out;
    EXPECT_TRUE(out.ParseFromString(message));
    return out;
  }
  void AddToLog(int events, const std::string& text = "") {
    for (int i = 0; i < events; ++i) {
      at_ += std::chrono::seconds(1);
      event_log_.Add({.kind = v1::EVENT_KIND_CONFIG, .text = text}, at_);
    }
  }
  // The numbers in all messages so far are consecutive up to the last one;
  // returns it.
  static uint64_t LastOf(const RawCaller::Answer& answer) {
    uint64_t last = 0;
    for (const std::string& message : answer.messages) {
      const v1::WatchEventsResponse response = Parsed(message);
      for (const v1::Event& event : response.events()) {
        EXPECT_EQ(event.sequence(), ++last);
      }
    }
    return last;
  }

  Instant at_ = MonotonicNow() + std::chrono::hours(1);
};

TEST_F(WatchEventsTest, TheFirstMessageComesAtOnceAndEventsFollow) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kMethod, Prefixed(v1::WatchEventsRequest())));
  const v1::WatchEventsResponse first =
      Parsed(caller->AwaitMessages(1, 1).messages[0]);
  EXPECT_EQ(first.instance(), "00000007");
  EXPECT_EQ(first.events_size(), 0);
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  const auto ready = [&] {
    for (const std::string& message : caller->answer(1).messages) {
      const v1::WatchEventsResponse response = Parsed(message);
      for (const v1::Event& event : response.events()) {
        if (event.kind() == v1::EVENT_KIND_READY) return true;
      }
    }
    return false;
  };
  EXPECT_TRUE(caller->ReadUntil(ready));
  EXPECT_FALSE(caller->answer(1).ended);
}

TEST_F(WatchEventsTest, WhatIsKeptComesWholeAndThenTheEnd) {
  AddToLog(1000);
  v1::WatchEventsRequest request;
  request.set_kept_only(true);
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kMethod, Prefixed(request)));
  EXPECT_EQ(caller->Await(1).status, "0");
  EXPECT_EQ(LastOf(caller->answer(1)), 1000u);
}

TEST_F(WatchEventsTest, ACallerWithoutAWindowIsWaitedFor) {
  // More than the window of 64 KiB that a stream begins with.
  AddToLog(1000, std::string(200, 'x'));
  v1::WatchEventsRequest request;
  request.set_kept_only(true);
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kMethod, Prefixed(request)));
  caller->AwaitMessages(1, 1);
  AddToLog(10);
  EXPECT_FALSE(caller->answer(1).ended);
  caller->Send(net::Window(0, 8 << 20) + net::Window(1, 8 << 20));
  EXPECT_EQ(caller->Await(1).status, "0");
  EXPECT_GE(LastOf(caller->answer(1)), 1000u);
}

TEST_F(WatchEventsTest, ABadRequestIsRefused) {
  v1::WatchEventsRequest request;
  request.set_target("nonsense");
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kMethod, Prefixed(request)));
  EXPECT_EQ(caller->Await(1).reason, "BAD_TARGET");
}

TEST_F(WatchEventsTest, TheEndOfTheProcessIsSaid) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kMethod, Prefixed(v1::WatchEventsRequest())));
  caller->AwaitMessages(1, 1);
  broker_->AbortCalls();
  EXPECT_EQ(caller->Await(1).reason, "DRAINING");
}

TEST_F(WatchEventsTest, ACallThatIsResetOrLateLeavesNothing) {
  auto caller = Connected();
  const std::string request = Prefixed(v1::WatchEventsRequest());
  caller->Send(RawCaller::Call(1, kMethod, request));
  caller->Send(
      RawCaller::Call(3, kMethod, request, {{"grpc-timeout", "200m"}}));
  caller->AwaitMessages(1, 1);
  caller->Send(net::Rst(1));
  EXPECT_EQ(caller->Await(3).status, "4");
  EXPECT_TRUE(hotline::Eventually([&] { return !front_->has_calls(); }));
}

}  // namespace
}  // namespace hotline::server
