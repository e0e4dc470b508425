// BrokerSession against a fake broker over loopback.
#include "client/broker_session.h"

#include <atomic>
#include <set>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_broker.h"
#include "tests/fakes/eventually.h"

namespace hotline::client {
namespace {

using grpc::Status;
using grpc::StatusCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Stream = FakeBroker::SessionStream;

// The broker's answer to one item: leases are named "stream/number".
void Answer(const v1::SessionItem& item, int stream, v1::SessionResult* out) {
  out->set_id(item.id());
  switch (item.call_case()) {
    case v1::SessionItem::kAcquire:
      out->mutable_acquire()->mutable_lease()->set_lease_id(
          std::to_string(stream) + "/" + std::to_string(item.id()));
      break;
    case v1::SessionItem::kRelease:
      out->mutable_release();
      break;
    case v1::SessionItem::kRenew:
      out->mutable_renew()->mutable_lease()->set_lease_id(
          item.renew().lease_id());
      break;
    case v1::SessionItem::kExecute:
      out->mutable_execute()->set_status(200);
      out->mutable_execute()->set_body(item.execute().body());
      break;
    default:
      out->mutable_cancel();
      break;
  }
}

// Answers every message on arrival.
Status AnswerAll(Stream* stream, int number) {
  stream->SendInitialMetadata();
  v1::SessionRequest request;
  while (stream->Read(&request)) {
    v1::SessionResponse response;
    for (const auto& item : request.items()) {
      Answer(item, number, response.add_results());
    }
    stream->Write(response);
  }
  return Status::OK;
}

v1::ExecuteRequest Post(const std::string& body = "x") {
  v1::ExecuteRequest request;
  request.set_url("https://a.test/");
  request.set_method("POST");
  request.set_body(body);
  return request;
}

v1::AcquireRequest Wanted() {
  v1::AcquireRequest request;
  request.set_target("https://a.test");
  return request;
}

std::string Reason(const absl::Status& status) {
  if (status.ok()) return "OK";
  const auto info = GetErrorInfo(status);
  return info.has_value() ? info->reason : "NO INFO: " + status.ToString();
}

std::string Written(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  if (!info.has_value() || info->domain != kClientDomain) return "?";
  return info->metadata.at("written");
}

class BrokerSessionTest : public testing::Test {
 protected:
  BrokerSessionTest() {
    options_.client.address = broker_.address();
    options_.client.default_timeout = seconds(20);
    options_.client.retry.initial_backoff = milliseconds(1);
    options_.client.retry.max_backoff = milliseconds(20);
    broker_.OnSession(AnswerAll);
  }

  BrokerSession& session() {
    if (session_ == nullptr) {
      auto made = BrokerSession::Create(options_);
      EXPECT_TRUE(made.ok()) << made.status();
      session_ = *std::move(made);
    }
    return *session_;
  }

  FakeBroker broker_;
  BrokerSessionOptions options_;
  std::unique_ptr<BrokerSession> session_;
};

TEST_F(BrokerSessionTest, AcquiresExecutesAndReleases) {
  std::atomic<int> released{0};
  broker_.OnSession([&](Stream* stream, int number) {
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    while (stream->Read(&request)) {
      v1::SessionResponse response;
      for (const auto& item : request.items()) {
        if (item.has_release()) ++released;
        Answer(item, number, response.add_results());
      }
      stream->Write(response);
    }
    return Status::OK;
  });
  auto lease = session().Acquire(Wanted());
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_EQ(lease->id(), "1/1");
  EXPECT_FALSE(lease->lost());
  auto answer = lease->Execute(Post("hello"));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body(), "hello");
  EXPECT_TRUE(lease->Renew(seconds(5)).ok());
  EXPECT_TRUE(lease->Release().ok());
  EXPECT_EQ(lease->id(), "");
  EXPECT_FALSE(lease->Release().ok()) << "that was it";
  EXPECT_FALSE(lease->Execute(Post()).ok());
  { auto forgotten = session().Acquire(Wanted()); }
  EXPECT_TRUE(Eventually([&] { return released == 2; }));
}

TEST_F(BrokerSessionTest, ErrorsOfTheBrokerHaveTheirDetails) {
  broker_.OnSession([](Stream* stream, int) {
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    while (stream->Read(&request)) {
      v1::SessionResponse response;
      auto* result = response.add_results();
      result->set_id(request.items(0).id());
      const Status error =
          BrokerError(StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", "full");
      result->mutable_error()->ParseFromString(error.error_details());
      stream->Write(response);
    }
    return Status::OK;
  });
  const auto lease = session().Acquire(Wanted());
  EXPECT_EQ(lease.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(lease.status().message(), "full");
  EXPECT_EQ(Reason(lease.status()), "QUEUE_FULL");
  EXPECT_EQ(GetErrorInfo(lease.status())->domain, "hotline");
}

TEST_F(BrokerSessionTest, ALoneItemIsSentAtOnceAndConcurrentItemsAreBatched) {
  std::atomic<int> messages{0};
  std::atomic<int> items{0};
  broker_.OnSession([&](Stream* stream, int number) {
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    while (stream->Read(&request)) {
      ++messages;
      items += request.items_size();
      v1::SessionResponse response;
      for (const auto& item : request.items()) {
        Answer(item, number, response.add_results());
      }
      stream->Write(response);
    }
    return Status::OK;
  });
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(session().Execute(Post()).ok());
  EXPECT_EQ(messages, 20);
  // A call made from a callback waits for the others.
  std::atomic<int> done{0};
  std::function<void(int)> go = [&](int left) {
    session().ExecuteAsync(Post(), {}, [&, left](auto answer) {
      EXPECT_TRUE(answer.ok());
      if (left > 1) go(left - 1);
      ++done;
    });
  };
  for (int i = 0; i < 100; ++i) go(20);
  ASSERT_TRUE(Eventually([&] { return done == 2000; }));
  EXPECT_EQ(items, 2020);
  EXPECT_LT(messages, 1000);
}

TEST_F(BrokerSessionTest, ItemsSentBeforeTheStreamWasLostAreNeverSentAgain) {
  std::atomic<int> posts{0};
  broker_.OnSession([&](Stream* stream, int number) {
    if (number > 1) return AnswerAll(stream, number);
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    stream->Read(&request);
    posts += request.items_size();
    return Status(StatusCode::INTERNAL, "cut");
  });
  const auto answer = session().Execute(Post());
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(Reason(answer.status()), "SESSION_LOST");
  EXPECT_EQ(Written(answer.status()), "true");
  EXPECT_EQ(posts, 1);
  EXPECT_TRUE(session().Execute(Post()).ok()) << "there is a new one";
}

TEST_F(BrokerSessionTest, UnsentItemsGoOutOnTheNextStream) {
  std::atomic<int> streams{0};
  broker_.OnSession([&](Stream* stream, int number) {
    streams = number;
    if (number == 1) return Status(StatusCode::UNAVAILABLE, "not yet");
    return AnswerAll(stream, number);
  });
  const auto answer = session().Execute(Post());
  EXPECT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(streams, 2);
}

TEST_F(BrokerSessionTest, WithoutABrokerCallsFailSoonAsNotSent) {
  broker_.Stop();
  options_.client.default_timeout = std::chrono::minutes(5);
  const auto answer = session().Execute(Post());
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Reason(answer.status()), "SESSION_UNAVAILABLE");
  EXPECT_EQ(Written(answer.status()), "false");
}

TEST_F(BrokerSessionTest, ABrokerWithoutSessionsIsNotRetriedForEachCall) {
  broker_.OnSession(nullptr);
  const auto answer = session().Execute(Post());
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Written(answer.status()), "false");
}

TEST_F(BrokerSessionTest, LeasesOfALostStreamAreLost) {
  std::atomic<bool> cut{false};
  broker_.OnSession([&](Stream* stream, int number) {
    if (number > 1) return AnswerAll(stream, number);
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    stream->Read(&request);
    v1::SessionResponse response;
    Answer(request.items(0), number, response.add_results());
    stream->Write(response);
    while (!cut) std::this_thread::yield();
    return Status(StatusCode::INTERNAL, "cut");
  });
  auto lease = session().Acquire(Wanted());
  ASSERT_TRUE(lease.ok());
  EXPECT_FALSE(lease->lost());
  cut = true;
  ASSERT_TRUE(Eventually([&] { return lease->lost(); }));
  ASSERT_TRUE(session().Execute(Post()).ok());
  EXPECT_TRUE(lease->lost()) << "also when there is a new stream";
  for (const absl::Status& status :
       {lease->Execute(Post()).status(), lease->Renew(seconds(1)),
        lease->Release()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(Reason(status), "LEASE_LOST");
  }
}

TEST_F(BrokerSessionTest, ItemsThatADrainingBrokerDidNotReadAreSentAgain) {
  std::atomic<int> seen{0};
  broker_.OnSession([&](Stream* stream, int number) {
    if (number > 1) return AnswerAll(stream, number);
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    stream->Read(&request);
    ++seen;
    return BrokerError(StatusCode::UNAVAILABLE, "DRAINING", "shutting down");
  });
  const auto answer = session().Execute(Post());
  EXPECT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(seen, 1);
}

TEST_F(BrokerSessionTest, ADeadlineEndsTheCallAndALateLeaseGoesBack) {
  std::atomic<bool> cancelled{false};
  std::atomic<bool> released{false};
  broker_.OnSession([&](Stream* stream, int number) {
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    v1::SessionResponse late;
    while (stream->Read(&request)) {
      for (const auto& item : request.items()) {
        if (item.has_acquire()) Answer(item, number, late.add_results());
        if (item.has_cancel()) {
          EXPECT_EQ(item.cancel().id(), late.results(0).id());
          cancelled = true;
          stream->Write(late);
        }
        if (item.has_release()) {
          EXPECT_EQ(item.release().lease_id(),
                    late.results(0).acquire().lease().lease_id());
          released = true;
        }
      }
    }
    return Status::OK;
  });
  const auto lease =
      session().Acquire(Wanted(), {.timeout = milliseconds(300)});
  EXPECT_EQ(lease.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Written(lease.status()), "true");
  EXPECT_TRUE(Eventually([&] { return cancelled.load(); }));
  EXPECT_TRUE(Eventually([&] { return released.load(); }));
}

TEST_F(BrokerSessionTest, TheBrokerGetsTheCallsTimeout) {
  std::atomic<int64_t> timeout_ms{0};
  std::atomic<int64_t> wait_ms{-1};
  const auto ms = [](const google::protobuf::Duration& d) {
    return d.seconds() * 1000 + d.nanos() / 1'000'000;
  };
  broker_.OnSession([&](Stream* stream, int number) {
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    while (stream->Read(&request)) {
      v1::SessionResponse response;
      for (const auto& item : request.items()) {
        if (item.has_execute()) timeout_ms = ms(item.execute().timeout());
        if (item.has_acquire()) wait_ms = ms(item.acquire().max_wait());
        Answer(item, number, response.add_results());
      }
      stream->Write(response);
    }
    return Status::OK;
  });
  ASSERT_TRUE(session().Execute(Post(), {.timeout = seconds(10)}).ok());
  EXPECT_GT(timeout_ms, 5'000);
  EXPECT_LE(timeout_ms, 9'950) << "less, so that its error comes in time";
  v1::ExecuteRequest brief = Post();
  brief.mutable_timeout()->set_seconds(1);
  ASSERT_TRUE(session().Execute(brief, {.timeout = seconds(10)}).ok());
  EXPECT_EQ(timeout_ms, 1'000);
  v1::AcquireRequest at_once = Wanted();
  at_once.mutable_max_wait();
  ASSERT_TRUE(session().Acquire(at_once).ok());
  EXPECT_EQ(wait_ms, 0);
}

TEST_F(BrokerSessionTest, LimitsBoundItemsInFlightAndQueued) {
  options_.max_in_flight = 2;
  options_.max_queued = 3;
  std::atomic<int> read{0};
  std::atomic<bool> go{false};
  broker_.OnSession([&](Stream* stream, int number) {
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    while (stream->Read(&request)) {
      read += request.items_size();
      while (!go) std::this_thread::yield();
      v1::SessionResponse response;
      for (const auto& item : request.items()) {
        Answer(item, number, response.add_results());
      }
      stream->Write(response);
    }
    return Status::OK;
  });
  std::atomic<int> ok{0};
  std::atomic<int> full{0};
  const auto call = [&] {
    session().ExecuteAsync(Post(), {}, [&](auto answer) {
      if (answer.ok()) ++ok;
      if (Reason(answer.status()) == "SESSION_QUEUE_FULL") ++full;
    });
  };
  call();
  ASSERT_TRUE(Eventually([&] { return read == 1; }));
  for (int i = 0; i < 9; ++i) call();
  // One was read, one more may be in transit, and three wait.
  EXPECT_GE(full, 5);
  EXPECT_LE(full, 6);
  go = true;
  EXPECT_TRUE(Eventually([&] { return ok + full == 10; }));
}

TEST_F(BrokerSessionTest, DestroyingTheSessionEndsItsCalls) {
  broker_.OnSession([](Stream* stream, int) {
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    while (stream->Read(&request)) {
    }
    return Status::OK;
  });
  std::vector<absl::Status> ends;
  for (int i = 0; i < 3; ++i) {
    session().ExecuteAsync(
        Post(), {}, [&](auto answer) { ends.push_back(answer.status()); });
  }
  session_ = nullptr;
  ASSERT_EQ(ends.size(), 3u);
  for (const auto& end : ends) EXPECT_EQ(Reason(end), "SESSION_CLOSED");
}

// No other channel is open in this process, so gRPC's threads end with the
// session: on the thread that ends it, not on one of gRPC's, which could not
// wait for itself.
TEST_F(BrokerSessionTest, AGrpcThreadNeverReleasesTheChannelLast) {
  for (int round = 0; round < 300; ++round) {
    auto made = BrokerSession::Create(options_);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ((*made)->Execute(Post("own")).value().body(), "own");
  }
}

TEST_F(BrokerSessionTest, InvalidOptionsAreRefused) {
  BrokerSessionOptions options;
  options.max_in_flight = 0;
  EXPECT_FALSE(BrokerSession::Create(options).ok());
  options.max_in_flight = 1;
  options.max_queued = 0;
  EXPECT_FALSE(BrokerSession::Create(options).ok());
  options.max_queued = 1;
  options.client.address = "nowhere";
  EXPECT_FALSE(BrokerSession::Create(options).ok());
}

// Threads make calls while their streams are cut at random moments.
TEST_F(BrokerSessionTest, EveryCallEndsOnceAndItsAnswerIsItsOwn) {
  std::atomic<uint64_t> executed{0};
  broker_.OnSession([&](Stream* stream, int number) {
    stream->SendInitialMetadata();
    v1::SessionRequest request;
    for (int messages = 0; stream->Read(&request); ++messages) {
      if (messages == 10 + number % 7) {
        return Status(StatusCode::INTERNAL, "cut");
      }
      v1::SessionResponse response;
      for (const auto& item : request.items()) {
        if (item.has_execute()) ++executed;
        Answer(item, number, response.add_results());
      }
      stream->Write(response);
    }
    return Status::OK;
  });
  options_.client.retry.max_attempts = 100;
  BrokerSession& shared = session();
  std::atomic<uint64_t> ok{0};
  std::atomic<uint64_t> lost{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const std::string body = std::to_string(t) + "-" + std::to_string(i);
        auto lease =
            i % 4 == 0
                ? shared.Acquire(Wanted())
                : absl::StatusOr<SessionLease>(absl::UnknownError("none"));
        const auto answer = lease.ok() ? lease->Execute(Post(body))
                                       : shared.Execute(Post(body));
        if (answer.ok()) {
          ++ok;
          EXPECT_EQ(answer->body(), body);
        } else {
          ++lost;
          EXPECT_THAT(Reason(answer.status()),
                      testing::AnyOf("SESSION_LOST", "LEASE_LOST"));
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ok + lost, 1600u);
  EXPECT_GT(ok, 100u);
  EXPECT_GT(lost, 0u);
  EXPECT_LE(executed, 1600u) << "nothing is sent twice";
}

}  // namespace
}  // namespace hotline::client
