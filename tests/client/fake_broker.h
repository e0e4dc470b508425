// A minimal broker in this process, whose answers are scripted by the test.
#ifndef HOTLINE_TESTS_CLIENT_FAKE_BROKER_H_
#define HOTLINE_TESTS_CLIENT_FAKE_BROKER_H_

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "hotline/v1/broker.grpc.pb.h"

namespace hotline::client {

// An error in the form of the broker's.
inline grpc::Status BrokerError(
    grpc::StatusCode code, const std::string& reason,
    const std::string& message,
    const std::vector<const google::protobuf::Message*>& more = {},
    const std::map<std::string, std::string>& metadata = {}) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("hotline");
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  status.add_details()->PackFrom(info);
  for (const auto* detail : more) status.add_details()->PackFrom(*detail);
  return grpc::Status(code, message, status.SerializeAsString());
}

// One method: the requests received, and its scripted answer.
template <typename Request, typename Response>
class FakeMethod {
 public:
  using Handler =
      std::function<grpc::Status(const Request&, Response*, int call)>;

  // `call` counts from 1.
  void Answer(Handler handler) {
    std::lock_guard<std::mutex> lock(mu_);
    handler_ = std::move(handler);
  }

  std::vector<Request> requests() const {
    std::lock_guard<std::mutex> lock(mu_);
    return requests_;
  }

  // The milliseconds until each call's deadline on arrival.
  std::vector<int64_t> remaining_ms() const {
    std::lock_guard<std::mutex> lock(mu_);
    return remaining_ms_;
  }

  grpc::Status Handle(grpc::ServerContext* context, const Request& request,
                      Response* response) {
    Handler handler;
    int call = 0;
    {
      std::lock_guard<std::mutex> lock(mu_);
      requests_.push_back(request);
      remaining_ms_.push_back(
          std::chrono::duration_cast<std::chrono::milliseconds>(
              context->deadline() - std::chrono::system_clock::now())
              .count());
      handler = handler_;
      call = static_cast<int>(requests_.size());
    }
    return handler ? handler(request, response, call) : grpc::Status::OK;
  }

 private:
  mutable std::mutex mu_;
  Handler handler_;
  std::vector<Request> requests_;
  std::vector<int64_t> remaining_ms_;
};

class FakeBroker final : public v1::Broker::Service,
                         public grpc::health::v1::Health::Service {
 public:
  // `address`: "127.0.0.1:0" (a free port), an earlier one, or "unix:///path".
  explicit FakeBroker(const std::string& address = "127.0.0.1:0") {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(static_cast<v1::Broker::Service*>(this));
    builder.RegisterService(
        static_cast<grpc::health::v1::Health::Service*>(this));
    builder.SetMaxReceiveMessageSize(8 << 20);
    server_ = builder.BuildAndStart();
    const bool is_unix = address.compare(0, 5, "unix:") == 0;
    address_ = is_unix ? address : "127.0.0.1:" + std::to_string(port);
  }

  ~FakeBroker() override { Stop(); }

  // Stops the broker and cancels running calls.
  void Stop() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_ = nullptr;
  }

  const std::string& address() const { return address_; }

  // One Session stream; `number` counts them from 1. Without a handler:
  // UNIMPLEMENTED.
  using SessionStream =
      grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>;
  using SessionHandler =
      std::function<grpc::Status(SessionStream* stream, int number)>;
  void OnSession(SessionHandler handler) {
    std::lock_guard<std::mutex> lock(session_mu_);
    session_ = std::move(handler);
  }

  FakeMethod<v1::AcquireRequest, v1::AcquireResponse> acquire;
  FakeMethod<v1::ReleaseRequest, v1::ReleaseResponse> release;
  FakeMethod<v1::RenewRequest, v1::RenewResponse> renew;
  // Streamed requests, too, assembled.
  FakeMethod<v1::ExecuteRequest, v1::ExecuteResponse> execute;
  // Of the streamed ones: the announced length of the body (-1: none), and the
  // longest piece.
  std::vector<int64_t> content_lengths() const {
    std::lock_guard<std::mutex> lock(stream_mu_);
    return content_lengths_;
  }
  size_t longest_piece() const {
    std::lock_guard<std::mutex> lock(stream_mu_);
    return longest_piece_;
  }
  // Not OK: every ExecuteStream ends with it. To be set before the first one.
  grpc::Status refuse_streams;
  FakeMethod<v1::StatsRequest, v1::StatsResponse> stats;
  FakeMethod<grpc::health::v1::HealthCheckRequest,
             grpc::health::v1::HealthCheckResponse>
      health;
  // Serves each tunnel. To be set before the first one.
  using TunnelStream =
      grpc::ServerReaderWriter<v1::TunnelResponse, v1::TunnelRequest>;
  std::function<grpc::Status(TunnelStream*)> tunnel;

 private:
  grpc::Status Acquire(grpc::ServerContext* context,
                       const v1::AcquireRequest* request,
                       v1::AcquireResponse* response) override {
    return acquire.Handle(context, *request, response);
  }
  grpc::Status Release(grpc::ServerContext* context,
                       const v1::ReleaseRequest* request,
                       v1::ReleaseResponse* response) override {
    return release.Handle(context, *request, response);
  }
  grpc::Status Renew(grpc::ServerContext* context,
                     const v1::RenewRequest* request,
                     v1::RenewResponse* response) override {
    return renew.Handle(context, *request, response);
  }
  grpc::Status Execute(grpc::ServerContext* context,
                       const v1::ExecuteRequest* request,
                       v1::ExecuteResponse* response) override {
    return execute.Handle(context, *request, response);
  }
  using Stream = grpc::ServerReaderWriter<v1::ExecuteStreamResponse,
                                          v1::ExecuteStreamRequest>;
  grpc::Status ExecuteStream(grpc::ServerContext* context,
                             Stream* stream) override {
    if (!refuse_streams.ok()) return refuse_streams;
    v1::ExecuteRequest whole;
    v1::ExecuteStreamRequest part;
    while (stream->Read(&part)) {
      std::lock_guard<std::mutex> lock(stream_mu_);
      if (part.has_body()) {
        whole.mutable_body()->append(part.body());
        longest_piece_ = std::max(longest_piece_, part.body().size());
        continue;
      }
      const v1::ExecuteStreamHead& head = part.head();
      content_lengths_.push_back(
          head.has_content_length() ? head.content_length() : -1);
      whole.set_lease_id(head.lease_id());
      whole.set_url(head.url());
      whole.set_method(head.method());
      *whole.mutable_headers() = head.headers();
      *whole.mutable_retry() = head.retry();
      *whole.mutable_options() = head.options();
    }
    v1::ExecuteResponse answer;
    const grpc::Status status = execute.Handle(context, whole, &answer);
    if (!status.ok()) return status;
    v1::ExecuteStreamResponse out;
    stream->Write(out);  // The client skips it.
    out.mutable_head()->set_status(answer.status());
    *out.mutable_head()->mutable_headers() = answer.headers();
    stream->Write(out);
    for (size_t at = 0; at < answer.body().size(); at += 4) {
      out.set_body(answer.body().substr(at, 4));
      stream->Write(out);
    }
    if (answer.truncated()) return grpc::Status::OK;  // Without its end.
    *out.mutable_end()->mutable_trailers() = answer.trailers();
    *out.mutable_end()->mutable_receipt() = answer.receipt();
    stream->Write(out);
    return grpc::Status::OK;
  }
  grpc::Status Stats(grpc::ServerContext* context,
                     const v1::StatsRequest* request,
                     v1::StatsResponse* response) override {
    return stats.Handle(context, *request, response);
  }
  grpc::Status Tunnel(grpc::ServerContext* /*context*/,
                      TunnelStream* stream) override {
    return tunnel(stream);
  }
  grpc::Status Session(grpc::ServerContext* context,
                       SessionStream* stream) override {
    SessionHandler handler;
    int number;
    {
      std::lock_guard<std::mutex> lock(session_mu_);
      handler = session_;
      number = ++sessions_;
    }
    if (!handler) return v1::Broker::Service::Session(context, stream);
    return handler(stream, number);
  }
  grpc::Status Check(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override {
    return health.Handle(context, *request, response);
  }

  std::mutex session_mu_;
  SessionHandler session_;
  int sessions_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  mutable std::mutex stream_mu_;
  std::vector<int64_t> content_lengths_;
  size_t longest_piece_ = 0;
};

}  // namespace hotline::client

#endif  // HOTLINE_TESTS_CLIENT_FAKE_BROKER_H_
