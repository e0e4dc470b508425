// The broker's methods, called over HTTP/2.
#include "server/front/server_call.h"

#include <atomic>
#include <random>

#include "tests/server/front/front_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

std::string Method(const char* name) {
  return std::string("/hotline.v1.Broker/") + name;
}

template <typename T>
T Parsed(const std::string& message) {
  T out;
  EXPECT_TRUE(out.ParseFromString(message));
  return out;
}

class ServerCallTest : public FrontTest {
 protected:
  static std::string Execute(const ScriptedPeer& peer) {
    v1::ExecuteRequest request;
    request.set_url(peer.target() + "/");
    return Prefixed(request);
  }
  static std::string Acquire(const ScriptedPeer& peer) {
    v1::AcquireRequest request;
    request.set_target(peer.target());
    return Prefixed(request);
  }
  int64_t Leases() {
    int64_t leases = 0;
    for (const pool::TargetRow& row : Look().targets) leases += row.leases;
    return leases;
  }
  bool NoLease() {
    return hotline::Eventually([&] { return Leases() == 0; });
  }
};

// Unary.

TEST_F(ServerCallTest, ExecutesManyAtOnce) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  auto caller = Connected();
  constexpr uint32_t kCalls = 50;
  std::string calls;
  for (uint32_t i = 0; i < kCalls; ++i) {
    calls += RawCaller::Call(2 * i + 1, Method("Execute"), Execute(peer));
  }
  caller->Send(calls);
  for (uint32_t i = 0; i < kCalls; ++i) {
    const RawCaller::Answer& answer = caller->Await(2 * i + 1);
    ASSERT_EQ(answer.status, "0") << answer.text;
    EXPECT_EQ(Parsed<v1::ExecuteResponse>(answer.messages.at(0)).body(),
              "hello");
  }
}

TEST_F(ServerCallTest, ALargeAnswerPassesASmallWindow) {
  const std::string body(2 << 20, 'b');
  ScriptedPeer peer(AlwaysAnswer(OkResponse(body)));
  auto caller = Connected();
  caller->Send(net::Window(0, 8 << 20));
  caller->Send(RawCaller::Call(1, Method("Execute"), Execute(peer)));
  // Reads one window at a time.
  size_t seen = 0;
  ASSERT_TRUE(caller->ReadUntil([&] {
    size_t total = 0;
    bool ended = false;
    for (const net::OutFrame& frame : caller->frames) {
      if (frame.stream != 1) continue;
      if (frame.type == NGHTTP2_DATA) total += frame.payload.size();
      if (frame.Get("grpc-status") != "-") ended = true;
    }
    if (total > seen) {
      caller->Send(net::Window(1, static_cast<uint32_t>(total - seen)));
      seen = total;
    }
    return ended;
  }));
  const RawCaller::Answer& answer = caller->Await(1);
  EXPECT_EQ(answer.status, "0") << answer.text;
  EXPECT_TRUE(Parsed<v1::ExecuteResponse>(answer.messages.at(0)).body() ==
              body);
}

TEST_F(ServerCallTest, ErrorsHaveTheirDetails) {
  auto caller = Connected();
  v1::ExecuteRequest request;
  request.set_url("ftp://x/");
  caller->Send(RawCaller::Call(1, Method("Execute"), Prefixed(request)));
  const RawCaller::Answer& answer = caller->Await(1);
  EXPECT_EQ(answer.status, "3");
  EXPECT_TRUE(answer.has_details);
}

TEST_F(ServerCallTest, ACallIsCancelledByItsReset) {
  std::atomic<bool> asked = false;
  ScriptedPeer peer([&](PeerConnection& connection) {
    asked = !connection.ReadRequest().empty();
    connection.AwaitClose();
  });
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, Method("Execute"), Execute(peer)));
  ASSERT_TRUE(hotline::Eventually([&] { return asked.load(); }));
  caller->Send(net::Rst(1));
  EXPECT_TRUE(hotline::Eventually([&] { return peer.open() == 0; }));
}

TEST_F(ServerCallTest, AcquireAndReleaseAndRenewAndStats) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, Method("Acquire"), Acquire(peer)));
  ASSERT_EQ(caller->Await(1).status, "0");
  const std::string lease =
      Parsed<v1::AcquireResponse>(caller->Await(1).messages.at(0))
          .lease()
          .lease_id();
  v1::RenewRequest renew;
  renew.set_lease_id(lease);
  caller->Send(RawCaller::Call(3, Method("Renew"), Prefixed(renew)));
  EXPECT_EQ(caller->Await(3).status, "0");
  caller->Send(RawCaller::Call(5, Method("Stats"), Prefixed("")));
  EXPECT_EQ(caller->Await(5).status, "0");
  v1::ReleaseRequest release;
  release.set_lease_id(lease);
  caller->Send(RawCaller::Call(7, Method("Release"), Prefixed(release)));
  EXPECT_EQ(caller->Await(7).status, "0");
  EXPECT_TRUE(NoLease());
}

TEST_F(ServerCallTest, AnAcquireThatIsResetLeavesNoLease) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  auto caller = Connected();
  uint32_t stream = 1;
  for (int i = 0; i < 50; ++i, stream += 2) {
    // The reset comes before the answer, with it, or after it.
    caller->Send(RawCaller::Call(stream, Method("Acquire"), Acquire(peer)));
    if (i % 3 != 0) caller->Await(stream);
    caller->Send(net::Rst(stream));
  }
  EXPECT_TRUE(NoLease()) << Leases();
}

TEST_F(ServerCallTest, AResetAtAnyMomentLeavesNoLease) {
  constexpr int kRaces = 1000;
  constexpr int kRacesOfOne = 100;  // Of one connection.
  parts_.http2.max_resets_per_second = 1'000'000;
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  std::minstd_rand random(1);
  int answered = 0;
  Duration usual(0);  // From an Acquire to its answer.
  for (int i = 0; i < kRaces; i += kRacesOfOne) {
    auto caller = Connected();
    uint32_t stream = 1;
    for (int j = 0; j < kRacesOfOne; ++j, stream += 2) {
      const Instant start = MonotonicNow();
      caller->Send(RawCaller::Call(stream, Method("Acquire"), Acquire(peer)));
      if (j == 0) {
        ASSERT_EQ(caller->Await(stream).status, "0");
        usual = MonotonicNow() - start;
      }
      // From before the answer to after it, unread.
      const Instant reset = start + usual * (random() % 200) / 100;
      while (MonotonicNow() < reset) {
      }
      caller->Send(net::Rst(stream));
    }
    caller->Send(RawCaller::Call(stream, Method("Stats"), Prefixed("")));
    ASSERT_EQ(caller->Await(stream).status, "0");
    for (uint32_t id = 1; id < stream; id += 2) {
      answered += caller->answer(id).status == "0" ? 1 : 0;
    }
    ASSERT_TRUE(NoLease()) << Leases() << " after " << i + kRacesOfOne;
  }
  RecordProperty("answered", answered);
}

TEST_F(ServerCallTest, ALateResetLeavesAUsedLease) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, Method("Acquire"), Acquire(peer)));
  const std::string lease =
      Parsed<v1::AcquireResponse>(caller->Await(1).messages.at(0))
          .lease()
          .lease_id();
  v1::ExecuteRequest execute;
  execute.set_url(peer.target() + "/");
  execute.set_lease_id(lease);
  caller->Send(RawCaller::Call(3, Method("Execute"), Prefixed(execute)));
  ASSERT_EQ(caller->Await(3).status, "0");
  caller->Send(net::Rst(1));
  v1::ReleaseRequest release;
  release.set_lease_id(lease);
  caller->Send(RawCaller::Call(5, Method("Release"), Prefixed(release)));
  ASSERT_EQ(caller->Await(5).status, "0");
  EXPECT_FALSE(Parsed<v1::ReleaseResponse>(caller->Await(5).messages.at(0))
                   .already_released());
}

// Streams.

TEST_F(ServerCallTest, ExecuteStreamPassesBothBodies) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("answer")));
  auto caller = Connected();
  v1::ExecuteStreamRequest head;
  head.mutable_head()->set_url(peer.target() + "/");
  head.mutable_head()->set_method("POST");
  v1::ExecuteStreamRequest piece;
  piece.set_body("request");
  caller->Send(RawCaller::Call(1, Method("ExecuteStream"),
                               Prefixed(head) + Prefixed(piece)));
  const RawCaller::Answer& answer = caller->Await(1);
  ASSERT_EQ(answer.status, "0") << answer.text;
  std::string body;
  bool end = false;
  for (const std::string& message : answer.messages) {
    const auto part = Parsed<v1::ExecuteStreamResponse>(message);
    body += part.body();
    end = end || part.has_end();
  }
  EXPECT_EQ(body, "answer");
  EXPECT_TRUE(end);
}

TEST_F(ServerCallTest, ARequestThatIsResetIsNotComplete) {
  std::atomic<bool> asked = false;
  std::atomic<bool> went_on = false;
  ScriptedPeer peer([&](PeerConnection& connection) {
    std::string read;
    do {
      read += connection.ReadSome();
    } while (!read.empty() && !read.ends_with("half\r\n"));
    asked = true;
    went_on = !connection.ReadSome().empty();
  });
  auto caller = Connected();
  v1::ExecuteStreamRequest head;
  head.mutable_head()->set_url(peer.target() + "/");
  head.mutable_head()->set_method("POST");
  v1::ExecuteStreamRequest piece;
  piece.set_body("half");
  caller->Send(RawCaller::Head(1, Method("ExecuteStream")) +
               net::Data(1, Prefixed(head) + Prefixed(piece)));
  ASSERT_TRUE(hotline::Eventually([&] { return asked.load(); }));
  caller->Send(net::Rst(1));
  EXPECT_TRUE(hotline::Eventually([&] { return peer.open() == 0; }));
  EXPECT_FALSE(went_on);
}

TEST_F(ServerCallTest, ASuccessWithoutMessagesHasAHead) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(
      1, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ""));
  const RawCaller::Answer& answer = caller->Await(1);
  EXPECT_EQ(answer.status, "0");
  ASSERT_FALSE(answer.head.empty());
  EXPECT_EQ(answer.head[0],
            std::make_pair(std::string(":status"), std::string("200")));
  EXPECT_EQ(caller->Count(NGHTTP2_HEADERS), 2u);
}

TEST_F(ServerCallTest, ASessionAnswersItsItemsAndEndsWithThem) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  auto caller = Connected();
  v1::SessionRequest request;
  v1::SessionItem* const execute = request.add_items();
  execute->set_id(1);
  execute->mutable_execute()->set_url(peer.target() + "/");
  v1::SessionItem* const acquire = request.add_items();
  acquire->set_id(2);
  acquire->mutable_acquire()->set_target(peer.target());
  caller->Send(RawCaller::Head(1, Method("Session")));
  ASSERT_TRUE(
      caller->ReadUntil([&] { return caller->Count(NGHTTP2_HEADERS) == 1; }));
  caller->Send(net::Data(1, Prefixed(request), net::kEndStream));
  const RawCaller::Answer& answer = caller->Await(1);
  EXPECT_EQ(answer.status, "0") << answer.text;
  std::map<uint64_t, v1::SessionResult> results;
  for (const std::string& message : answer.messages) {
    const auto response = Parsed<v1::SessionResponse>(message);
    for (const auto& result : response.results()) {
      results[result.id()] = result;
    }
  }
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[1].execute().body(), "hello");
  EXPECT_TRUE(results[2].has_acquire());
  EXPECT_TRUE(NoLease()) << "its leases end with it";
}

TEST_F(ServerCallTest, ASessionEndsWithItsStream) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  auto caller = Connected();
  v1::SessionRequest request;
  request.add_items()->set_id(1);
  request.mutable_items(0)->mutable_acquire()->set_target(peer.target());
  caller->Send(RawCaller::Head(1, Method("Session")) +
               net::Data(1, Prefixed(request)));
  caller->AwaitMessages(1, 1);
  EXPECT_EQ(Leases(), 1);
  caller->Send(net::Rst(1));
  EXPECT_TRUE(NoLease());
}

TEST_F(ServerCallTest, ASessionEndsAtItsDeadline) {
  auto caller = Connected();
  caller->Send(
      RawCaller::Head(1, Method("Session"), {{"grpc-timeout", "50m"}}));
  EXPECT_EQ(caller->Await(1).status, "4");
}

TEST_F(ServerCallTest, ATunnelPassesBytesAndItsEnd) {
  ScriptedPeer peer([](PeerConnection& connection) {
    std::string seen;
    while (seen != "ping") {
      const std::string more = connection.ReadSome();
      if (more.empty()) return;
      seen += more;
    }
    connection.Write("pong");
    connection.Close();
  });
  auto caller = Connected();
  v1::TunnelRequest open;
  open.mutable_open()->set_target("tcp://127.0.0.1:" +
                                  std::to_string(peer.port()));
  v1::TunnelRequest data;
  data.set_data("ping");
  caller->Send(RawCaller::Head(1, Method("Tunnel")) +
               net::Data(1, Prefixed(open) + Prefixed(data)));
  caller->AwaitMessages(1, 2);
  caller->Send(net::Data(1, "", net::kEndStream));
  const RawCaller::Answer& answer = caller->Await(1);
  EXPECT_EQ(answer.status, "0") << answer.text;
  std::string bytes;
  for (const std::string& message : answer.messages) {
    bytes += Parsed<v1::TunnelResponse>(message).data();
  }
  EXPECT_EQ(bytes, "pong");
}

TEST_F(ServerCallTest, ATunnelMustBeginWithOpen) {
  auto caller = Connected();
  v1::TunnelRequest data;
  data.set_data("x");
  caller->Send(RawCaller::Head(1, Method("Tunnel")) +
               net::Data(1, Prefixed(data)));
  EXPECT_EQ(caller->Await(1).status, "3");
  caller->Send(RawCaller::Call(3, Method("Tunnel"), ""));
  EXPECT_EQ(caller->Await(3).status, "3");
}

}  // namespace
}  // namespace hotline::server
