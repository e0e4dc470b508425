// A Broker over a real pool, a real upstream and loopback, without gRPC.
#ifndef HOTLINE_TESTS_SERVER_BROKER_BROKER_FIXTURE_H_
#define HOTLINE_TESTS_SERVER_BROKER_BROKER_FIXTURE_H_

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "google/protobuf/arena.h"
#include "gtest/gtest.h"
#include "pool/pool.h"
#include "server/broker/broker.h"
#include "server/broker/event_sources.h"
#include "server/broker/execute_answer.h"
#include "tests/fakes/eventually.h"
#include "tests/fakes/scripted_peer.h"
#include "upstream/upstream.h"

namespace hotline::server {

inline std::string Encoded(const ExecuteAnswer& answer) {
  std::string encoded(answer.ByteSize(), '\0');
  auto* const begin = reinterpret_cast<uint8_t*>(encoded.data());
  EXPECT_EQ(answer.Encode(begin), begin + encoded.size());
  return encoded;
}

// What a caller reads of `answer`.
inline v1::ExecuteResponse Decoded(const ExecuteAnswer& answer) {
  v1::ExecuteResponse response;
  EXPECT_TRUE(response.ParseFromString(Encoded(answer)));
  return response;
}

// A call that a test can wait for.
template <typename Request, typename Response>
class TestCall : public Completion {
 public:
  void OnComplete(ErrorPtr error) override {
    std::lock_guard lock(mu_);
    error_ = std::move(error);
    done_ = true;
    cv_.notify_all();
  }

  // "OK", or the error's reason; "STUCK" if the call does not end in time.
  std::string Wait() {
    std::unique_lock lock(mu_);
    if (!cv_.wait_for(lock, std::chrono::seconds(30), [this] { return done_; }))
      return "STUCK";
    return error_ == nullptr ? "OK" : error_->reason;
  }

  bool done() {
    std::lock_guard lock(mu_);
    return done_;
  }

  const Error& error() const { return *error_; }
  std::string metadata(std::string_view key) const {
    for (const auto& [name, value] : error_->metadata) {
      if (name == key) return value;
    }
    return "";
  }

  Request request;
  Response response;
  std::shared_ptr<Call> call;

 private:
  std::mutex mu_;
  std::condition_variable cv_;
  bool done_ = false;
  ErrorPtr error_;
};

class TestExecute final
    : public TestCall<v1::ExecuteRequest, v1::ExecuteResponse> {
 public:
  void OnComplete(ErrorPtr error) override {
    if (error == nullptr) response = Decoded(answer);
    TestCall::OnComplete(std::move(error));
  }

  google::protobuf::Arena arena;
  ExecuteAnswer answer{&arena};
};
using TestAcquire = TestCall<v1::AcquireRequest, v1::AcquireResponse>;

class BrokerTest : public ::testing::Test {
 protected:
  BrokerTest() {
    upstream_options_.egress.allow = {"127.0.0.0/8"};
    pool_config_.instance = 7;
  }
  void SetUp() override { Build(); }

  void Build() {
    auto upstream = upstream::Upstream::Create(upstream_options_);
    ASSERT_TRUE(upstream.ok()) << upstream.status();
    upstream_ = *std::move(upstream);
    pool_ = std::make_unique<pool::Pool>(
        pool_config_, [this](const std::string&) { return target_config_; },
        upstream_.get(), EventsInto(&event_log_));
    upstream_->Observe(ObserverInto(&event_log_));
    upstream_->Start(pool_.get(), [this](int shard, Instant now) {
      pool_->Tick(shard, now);
    });
    broker_ =
        std::make_unique<Broker>(settings_, pool_config_.instance, pool_.get(),
                                 upstream_.get(), &metrics_, &event_log_);
  }

  // Checks that no lease is held and no caller waits.
  void TearDown() override {
    for (const pool::TargetRow& row : Look().targets) {
      EXPECT_EQ(row.leases, leases_kept_) << row.target;
      EXPECT_EQ(row.waiters, 0) << row.target;
    }
    upstream_->Stop();
  }

  template <typename T>
  T* Go(T* call, Duration deadline = std::chrono::seconds(20),
        std::string traceparent = "") {
    CallContext context;
    context.traceparent = std::move(traceparent);
    context.arrival = MonotonicNow();
    context.deadline = context.arrival + deadline;
    if constexpr (std::is_same_v<T, TestExecute>) {
      call->call =
          broker_->NewExecute(&call->request, &call->answer, context, call);
    } else {
      call->call =
          broker_->NewAcquire(&call->request, &call->response, context, call);
    }
    call->call->Start();
    return call;
  }

  // Starts a call for the peer's "/".
  std::unique_ptr<TestExecute> Execute(
      const testing::ScriptedPeer& peer, const std::string& method = "GET",
      Duration deadline = std::chrono::seconds(20)) {
    auto call = std::make_unique<TestExecute>();
    call->request.set_url(peer.target() + "/");
    call->request.set_method(method);
    if (method == "POST") call->request.set_body("payload");
    Go(call.get(), deadline);
    return call;
  }

  std::unique_ptr<TestAcquire> Acquire(const std::string& target) {
    auto call = std::make_unique<TestAcquire>();
    call->request.set_target(target);
    Go(call.get());
    return call;
  }

  // Returns "OK", "ALREADY", or the error's reason.
  std::string Release(const std::string& lease_id,
                      v1::Outcome outcome = v1::OUTCOME_OK) {
    v1::ReleaseRequest request;
    request.set_lease_id(lease_id);
    request.set_outcome(outcome);
    v1::ReleaseResponse response;
    CallContext context;
    context.arrival = MonotonicNow();
    const ErrorPtr error = broker_->Release(request, &response, context);
    if (error != nullptr) return error->reason;
    return response.already_released() ? "ALREADY" : "OK";
  }

  pool::Snapshot Look() { return pool_->TakeSnapshot({}, MonotonicNow()); }

  // Waits until `wanted` returns true for a snapshot of the pool.
  template <typename Wanted>
  bool Eventually(Wanted wanted) {
    return hotline::Eventually([&] { return wanted(Look()); });
  }

  // The input of Build; subclasses set it in their constructors.
  upstream::Options upstream_options_;
  pool::PoolConfig pool_config_;
  BrokerSettings settings_;
  pool::TargetConfig target_config_;
  int leases_kept_ = 0;  // Leases that the test leaves behind.
  CallMetrics metrics_{100};
  EventLog event_log_;
  std::unique_ptr<upstream::Upstream> upstream_;
  std::unique_ptr<pool::Pool> pool_;
  std::unique_ptr<Broker> broker_;
};

}  // namespace hotline::server

#endif  // HOTLINE_TESTS_SERVER_BROKER_BROKER_FIXTURE_H_
