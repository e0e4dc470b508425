// A bare gRPC server with Hotline's messages and nothing behind them: what gRPC
// alone costs, as the yardstick for hotlined (same library, same linkage, same
// threads, messages of the same size).
//
//   echo_server ADDRESS BODY_BYTES
//
// Answers Execute with a response of BODY_BYTES and the receipt of a hot call,
// Acquire with a lease of the usual size. Prints the address it listens on.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/synchronization/mutex.h"
#include "grpcpp/grpcpp.h"
#include "hotline/v1/broker.grpc.pb.h"

namespace {

namespace v1 = hotline::v1;

void FillConnection(v1::ConnectionInfo* connection) {
  connection->set_connection_id(0x100000001);
  connection->set_protocol("http/1.1");
  connection->set_remote_address("127.0.0.1:44443");
  connection->set_local_address("127.0.0.1:55555");
  connection->set_tls_version("TLSv1.3");
  connection->set_tls_cipher("TLS_AES_256_GCM_SHA384");
  connection->set_reused(true);
  connection->set_calls(12345);
  connection->mutable_age()->set_seconds(12);
  connection->mutable_age()->set_nanos(345678901);
}

class Echo final : public v1::Broker::CallbackService {
 public:
  explicit Echo(size_t body_bytes) {
    answer_.set_status(200);
    for (const char* name : {"server", "date", "content-type", "content-length",
                             "last-modified", "connection", "etag"}) {
      v1::Header* header = answer_.add_headers();
      header->set_name(name);
      header->set_value("Mon, 01 Jan 2024 00:00");
    }
    answer_.set_body(std::string(body_bytes, 'x'));
    v1::Receipt* receipt = answer_.mutable_receipt();
    FillConnection(receipt->mutable_connection());
    receipt->set_attempts(1);
    for (auto* time : {receipt->mutable_timings()->mutable_total(),
                       receipt->mutable_timings()->mutable_first_byte(),
                       receipt->mutable_timings()->mutable_transfer()}) {
      time->set_nanos(123456);
    }
    lease_.mutable_lease()->set_lease_id(std::string(44, 'a'));
    lease_.mutable_lease()->mutable_expire_time()->set_seconds(1700000000);
    lease_.mutable_lease()->mutable_expire_time()->set_nanos(123456789);
    FillConnection(lease_.mutable_connection());
    lease_.mutable_timings()->mutable_total()->set_nanos(12345);
  }

  grpc::ServerUnaryReactor* Execute(grpc::CallbackServerContext* context,
                                    const v1::ExecuteRequest*,
                                    v1::ExecuteResponse* response) override {
    *response = answer_;
    return Finish(context);
  }

  grpc::ServerUnaryReactor* Acquire(grpc::CallbackServerContext* context,
                                    const v1::AcquireRequest*,
                                    v1::AcquireResponse* response) override {
    *response = lease_;
    return Finish(context);
  }

  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context,
                                    const v1::ReleaseRequest*,
                                    v1::ReleaseResponse*) override {
    return Finish(context);
  }

 private:
  static grpc::ServerUnaryReactor* Finish(
      grpc::CallbackServerContext* context) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  v1::ExecuteResponse answer_;
  v1::AcquireResponse lease_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: echo_server ADDRESS BODY_BYTES\n");
    return 2;
  }
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  Echo echo(std::strtoul(argv[2], nullptr, 10));
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(argv[1], grpc::InsecureServerCredentials(), &port);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1024);
  builder.RegisterService(&echo);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) return 1;
  std::printf("%d\n", port);
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}
