#include "server/broker/error.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using pool::FailureClass;
using pool::RejectReason;

google::rpc::Status ToStatus(const ErrorPtr& error) {
  google::rpc::Status status;
  FillStatus(*error, &status);
  return status;
}

template <typename T>
bool Find(const google::rpc::Status& status, T* out) {
  for (const auto& any : status.details()) {
    if (any.UnpackTo(out)) return true;
  }
  return false;
}

pool::Rejection Rejected(RejectReason reason) {
  pool::Rejection rejection;
  rejection.reason = reason;
  rejection.retry_after = std::chrono::milliseconds(250);
  return rejection;
}

pool::Rejection DialFailed(FailureClass failure_class, const char* reason) {
  pool::Rejection rejection = Rejected(RejectReason::kDialFailed);
  rejection.dial_error = {failure_class, reason, "it went wrong"};
  return rejection;
}

TEST(ErrorTest, EveryRejectionHasTheContractsCodeAndReason) {
  struct Row {
    pool::Rejection rejection;
    StatusCode code;
    const char* reason;
    bool retry_info;
  };
  const Row rows[] = {
      {Rejected(RejectReason::kQueueFull), StatusCode::kResourceExhausted,
       "QUEUE_FULL", true},
      {Rejected(RejectReason::kNoIdleConnection),
       StatusCode::kResourceExhausted, "NO_IDLE_CONNECTION", true},
      {Rejected(RejectReason::kTooManyTargets), StatusCode::kResourceExhausted,
       "TOO_MANY_TARGETS", true},
      {Rejected(RejectReason::kWaitTimeout), StatusCode::kDeadlineExceeded,
       "WAIT_TIMEOUT", false},
      {Rejected(RejectReason::kSuperseded), StatusCode::kAborted, "SUPERSEDED",
       false},
      {Rejected(RejectReason::kIdConflict), StatusCode::kInvalidArgument,
       "REQUEST_ID_CONFLICT", false},
      {Rejected(RejectReason::kShutdown), StatusCode::kUnavailable, "DRAINING",
       true},
      {Rejected(RejectReason::kDrained), StatusCode::kUnavailable, "DRAINING",
       true},
      {DialFailed(FailureClass::kNetwork, "DNS_FAILED"),
       StatusCode::kUnavailable, "DNS_FAILED", true},
      {DialFailed(FailureClass::kNetwork, "CONNECT_FAILED"),
       StatusCode::kUnavailable, "CONNECT_FAILED", true},
      {DialFailed(FailureClass::kNetwork, "PROXY_REFUSED"),
       StatusCode::kUnavailable, "PROXY_REFUSED", true},
      {DialFailed(FailureClass::kTls, "TLS_FAILED"), StatusCode::kUnavailable,
       "TLS_FAILED", true},
      {DialFailed(FailureClass::kTls, "TLS_VERIFY_FAILED"),
       StatusCode::kFailedPrecondition, "TLS_VERIFY_FAILED", false},
      {DialFailed(FailureClass::kTls, "ALPN_MISMATCH"),
       StatusCode::kFailedPrecondition, "ALPN_MISMATCH", false},
      {DialFailed(FailureClass::kValidation, "VALIDATION_FAILED"),
       StatusCode::kFailedPrecondition, "VALIDATION_FAILED", false},
      {DialFailed(FailureClass::kPolicy, "ADDRESS_BLOCKED"),
       StatusCode::kUnavailable, "ADDRESS_BLOCKED", true},
      {DialFailed(FailureClass::kPolicy, "EGRESS_DENIED"),
       StatusCode::kPermissionDenied, "EGRESS_DENIED", false},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.reason);
    const ErrorPtr error = FromRejection("https://a:443", row.rejection);
    EXPECT_EQ(error->code, row.code);
    const google::rpc::Status details = ToStatus(error);
    EXPECT_EQ(details.code(), static_cast<int>(row.code));
    google::rpc::ErrorInfo info;
    ASSERT_TRUE(Find(details, &info));
    EXPECT_EQ(info.reason(), row.reason);
    EXPECT_EQ(info.domain(), "hotline");
    google::rpc::RetryInfo retry;
    EXPECT_EQ(Find(details, &retry), row.retry_info);
    if (row.retry_info && row.rejection.reason != RejectReason::kShutdown) {
      EXPECT_EQ(retry.retry_delay().nanos(), 250'000'000);
    }
  }
}

TEST(ErrorTest, BadInputNamesTheField) {
  const google::rpc::Status status =
      ToStatus(FromInput({"BAD_HEADER", "headers[3].name", "no"}));
  EXPECT_EQ(status.code(), static_cast<int>(StatusCode::kInvalidArgument));
  google::rpc::BadRequest bad;
  ASSERT_TRUE(Find(status, &bad));
  ASSERT_EQ(bad.field_violations_size(), 1);
  EXPECT_EQ(bad.field_violations(0).field(), "headers[3].name");
}

TEST(ErrorTest, EachLeaseStatusHasItsOwnReason) {
  using pool::LeaseStatus;
  EXPECT_EQ(FromLeaseStatus(LeaseStatus::kEnded)->reason, "LEASE_EXPIRED");
  EXPECT_EQ(FromLeaseStatus(LeaseStatus::kUnknown)->reason, "LEASE_UNKNOWN");
  EXPECT_EQ(FromLeaseStatus(LeaseStatus::kOtherInstance)->reason,
            "LEASE_OTHER_INSTANCE");
  EXPECT_EQ(FromLeaseStatus(LeaseStatus::kBusy)->reason, "LEASE_BUSY");
  const ErrorPtr not_yours = FromLeaseStatus(LeaseStatus::kNotYours);
  EXPECT_EQ(not_yours->reason, "LEASE_NOT_YOURS");
  EXPECT_EQ(not_yours->code, absl::StatusCode::kPermissionDenied);
}

TEST(ErrorTest, AWaitTimeoutExplainsItselfWithinTheSizeThatArrives) {
  pool::Rejection rejection = Rejected(RejectReason::kWaitTimeout);
  rejection.wait.limit = pool::WaitLimit::kTargetConnections;
  rejection.wait.limit_value = 10;
  rejection.wait.place = 7;
  rejection.last_dial_error = std::string(5000, 'e');
  for (int i = 0; i < 5; ++i) {
    const std::string longest(128, 'h');
    rejection.oldest_holders.push_back(
        {{longest, longest, longest}, std::chrono::seconds(5 - i)});
  }
  const google::rpc::Status status =
      ToStatus(FromRejection("https://a:443", rejection));
  v1::WaitExplanation wait;
  ASSERT_TRUE(Find(status, &wait));
  EXPECT_EQ(wait.limit(), "target_connections");
  EXPECT_EQ(wait.limit_value(), 10);
  EXPECT_EQ(wait.place(), 7);
  EXPECT_EQ(wait.oldest_holders_size(), 5);
  EXPECT_LT(status.SerializeAsString().size() + status.message().size(), 4096u);
}

TEST(ErrorTest, AsManyEventsAsFitGoWithTheError) {
  EventLog events;
  for (int i = 0; i < 10; ++i) {
    events.Add({.kind = v1::EVENT_KIND_DIAL_FAILED,
                .target = "https://a:443",
                .reason = "CONNECT_FAILED",
                .text = std::string(300, 'x')},
               Instant{} + std::chrono::seconds(i));
  }
  pool::Rejection rejection = Rejected(RejectReason::kWaitTimeout);
  v1::WaitExplanation wait;
  ASSERT_TRUE(Find(
      ToStatus(FromRejection("https://a:443", rejection, 0, &events)), &wait));
  ASSERT_EQ(wait.recent_events_size(), 5);
  EXPECT_EQ(wait.recent_events(4).sequence(), 10u);
  EXPECT_EQ(wait.recent_events(4).target(), "");
  rejection.last_dial_error = std::string(5000, 'e');
  for (int i = 0; i < 5; ++i) {
    const std::string longest(128, 'h');
    rejection.oldest_holders.push_back(
        {{longest, longest, longest}, std::chrono::seconds(5 - i)});
  }
  const google::rpc::Status status =
      ToStatus(FromRejection("https://a:443", rejection, 0, &events));
  ASSERT_TRUE(Find(status, &wait));
  EXPECT_EQ(wait.oldest_holders_size(), 5);
  EXPECT_LT(wait.recent_events_size(), 5);
  EXPECT_LT(status.SerializeAsString().size() + status.message().size(), 4096u);
  rejection = Rejected(RejectReason::kNoIdleConnection);
  EXPECT_FALSE(Find(
      ToStatus(FromRejection("https://a:443", rejection, 0, &events)), &wait));
}

}  // namespace
}  // namespace hotline::server
