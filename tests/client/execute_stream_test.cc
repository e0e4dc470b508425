#include "client/execute_stream.h"

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "client/broker_client.h"
#include "gtest/gtest.h"
#include "tests/client/fake_broker.h"

namespace hotline::client {
namespace {

using grpc::Status;
using grpc::StatusCode;

class ExecuteStreamTest : public testing::Test {
 protected:
  ExecuteStreamTest() {
    BrokerClientOptions options;
    options.address = broker_.address();
    client_ = *BrokerClient::Create(options);
    broker_.execute.Answer([](const auto& request, auto* response, int) {
      response->set_status(200);
      response->set_body(request.body());
      response->mutable_receipt()->set_attempts(1);
      response->add_trailers()->set_name("t");
      return Status::OK;
    });
  }

  ExecuteStream Open(CallOptions options = {}) {
    v1::ExecuteStreamHead head;
    head.set_url("https://a.test/");
    head.set_method("POST");
    return client_->OpenStream(head, std::move(options));
  }

  FakeBroker broker_;
  std::unique_ptr<BrokerClient> client_;
};

TEST_F(ExecuteStreamTest, SendsAndReadsInPieces) {
  ExecuteStream stream = Open();
  EXPECT_TRUE(stream.Send("hello "));
  EXPECT_TRUE(stream.Send("world"));
  EXPECT_TRUE(stream.EndBody());
  const auto head = stream.ReadHead();
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(200, head->status());
  EXPECT_TRUE(stream.ReadHead().ok());
  std::string all;
  int pieces = 0;
  for (std::string piece; stream.ReadBody(&piece); ++pieces) all += piece;
  EXPECT_EQ("hello world", all);
  EXPECT_EQ(3, pieces);
  const auto end = stream.Finish();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(1, end->receipt().attempts());
  EXPECT_EQ("t", end->trailers(0).name());
  EXPECT_TRUE(stream.Finish().ok());
}

TEST_F(ExecuteStreamTest, LongPiecesAreCut) {
  ExecuteStream stream = Open();
  EXPECT_TRUE(stream.Send(std::string(1'000'000, 'x')));
  stream.EndBody();
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(1'000'000u, broker_.execute.requests().back().body().size());
  EXPECT_EQ(256u << 10, broker_.longest_piece());
}

TEST_F(ExecuteStreamTest, UnreadBodyIsSkipped) {
  ExecuteStream stream = Open();
  stream.Send(std::string(100'000, 'x'));
  stream.EndBody();
  const auto end = stream.Finish();
  EXPECT_TRUE(end.ok());
  std::string piece;
  EXPECT_FALSE(stream.ReadBody(&piece));
}

TEST_F(ExecuteStreamTest, AnErrorHasItsReason) {
  broker_.execute.Answer([](const auto&, auto*, int) {
    return BrokerError(StatusCode::ABORTED, "UPSTREAM_RESET", "it died", {},
                       {{"verdict", "PARTIAL"}});
  });
  ExecuteStream stream = Open();
  stream.EndBody();
  EXPECT_TRUE(absl::IsAborted(stream.ReadHead().status()));
  std::string piece;
  EXPECT_FALSE(stream.ReadBody(&piece));
  const absl::Status status = stream.Finish().status();
  EXPECT_TRUE(absl::IsAborted(status));
  ASSERT_TRUE(GetErrorInfo(status).has_value());
  EXPECT_EQ("UPSTREAM_RESET", GetErrorInfo(status)->reason);
  EXPECT_EQ("PARTIAL", GetErrorInfo(status)->metadata["verdict"]);
  EXPECT_EQ(1u, broker_.execute.requests().size());  // Not repeated.
}

TEST_F(ExecuteStreamTest, AnIncompleteAnswerIsAnError) {
  broker_.execute.Answer([](const auto&, auto* response, int) {
    response->set_status(200);
    response->set_body("half");
    response->set_truncated(true);  // The fake leaves the end out.
    return Status::OK;
  });
  ExecuteStream stream = Open();
  stream.EndBody();
  EXPECT_TRUE(stream.ReadHead().ok());
  EXPECT_TRUE(absl::IsInternal(stream.Finish().status()));
}

TEST_F(ExecuteStreamTest, TheDeadlineCoversTheWholeCall) {
  ExecuteStream stream = Open({.timeout = std::chrono::milliseconds(50)});
  // The fake answers at the end of the body, which does not come.
  EXPECT_TRUE(absl::IsDeadlineExceeded(stream.ReadHead().status()));
  EXPECT_FALSE(stream.Send("x"));
}

TEST_F(ExecuteStreamTest, FinishReturnsAfterCancel) {
  ExecuteStream stream = Open();
  std::thread canceller([&] { stream.Cancel(); });
  EXPECT_TRUE(absl::IsCancelled(stream.Finish().status()));
  canceller.join();
  EXPECT_FALSE(stream.EndBody() && stream.Send("x"));
}

TEST_F(ExecuteStreamTest, DestroyingTheStreamCancelsTheCall) {
  {
    ExecuteStream dropped = Open();
    dropped.Send("half");
    ExecuteStream moved = std::move(dropped);
    moved = Open();
  }
  // Neither call may keep the broker from stopping.
  broker_.Stop();
}

TEST_F(ExecuteStreamTest, ALeaseRunsTheCallOnItsConnection) {
  broker_.acquire.Answer([](const auto&, auto* response, int) {
    response->mutable_lease()->set_lease_id("abc");
    return Status::OK;
  });
  v1::AcquireRequest wanted;
  wanted.set_target("https://a.test");
  auto lease = client_->Acquire(wanted);
  ASSERT_TRUE(lease.ok());
  v1::ExecuteStreamHead head;
  head.set_url("https://a.test/");
  auto stream = lease->OpenStream(head);
  ASSERT_TRUE(stream.ok());
  stream->EndBody();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ("abc", broker_.execute.requests().back().lease_id());
  ASSERT_TRUE(lease->Release().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(lease->OpenStream(head).status()));
}

}  // namespace
}  // namespace hotline::client
