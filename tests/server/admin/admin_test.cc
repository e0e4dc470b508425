#include "server/admin/admin.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/impl/codegen/client_unary_call.h"
#include "grpcpp/impl/codegen/sync_stream.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "hotline/reflection/reflection.pb.h"
#include "tests/fakes/eventually.h"

namespace hotline::server {
namespace {

namespace v1 = grpc::health::v1;

using Serving = v1::HealthCheckResponse;

class AdminTest : public ::testing::Test {
 protected:
  void Start(AdminOptions options) {
    auto admin = Admin::Start(options);
    ASSERT_TRUE(admin.ok()) << admin.status();
    admin_ = *std::move(admin);
  }

  // A connection of its own for each.
  std::shared_ptr<grpc::Channel> Channel() const {
    grpc::ChannelArguments own;
    own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(admin_->address(),
                                     grpc::InsecureChannelCredentials(), own);
  }

  static std::unique_ptr<grpc::ClientContext> Context() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(20));
    return context;
  }

  static grpc::Status Check(const std::shared_ptr<grpc::Channel>& channel,
                            const std::string& service, Serving* response) {
    v1::HealthCheckRequest request;
    request.set_service(service);
    const auto context = Context();
    return v1::Health::NewStub(channel)->Check(context.get(), request,
                                               response);
  }

  Serving::ServingStatus Health(const std::string& service = "") const {
    Serving response;
    const grpc::Status status = Check(Channel(), service, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.status();
  }

  std::unique_ptr<Admin> admin_;
};

TEST_F(AdminTest, HealthIsWhatTheFrontsIs) {
  Start({.address = "127.0.0.1:0"});
  EXPECT_EQ(Health(), Serving::NOT_SERVING);
  admin_->SetServing(true);
  EXPECT_EQ(Health(), Serving::SERVING);
  EXPECT_EQ(Health("hotline.v1.Broker"), Serving::SERVING);
  admin_->SetHealth("target:https://a.test:443", false);
  EXPECT_EQ(Health("target:https://a.test:443"), Serving::NOT_SERVING);
  admin_->SetServing(false);
  EXPECT_EQ(Health("hotline.v1.Broker"), Serving::NOT_SERVING);
  Serving response;
  EXPECT_EQ(Check(Channel(), "no.such.Service", &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(AdminTest, WatchReportsEachChangeUntilTheStop) {
  Start({.address = "127.0.0.1:0"});
  const auto context = Context();
  const auto stub = v1::Health::NewStub(Channel());
  const auto watch = stub->Watch(context.get(), v1::HealthCheckRequest());
  Serving response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Serving::NOT_SERVING);
  admin_->SetServing(true);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Serving::SERVING);
  admin_->Stop(Duration(0));
  while (watch->Read(&response)) {
    EXPECT_EQ(response.status(), Serving::NOT_SERVING);
  }
  EXPECT_FALSE(watch->Finish().ok());
}

TEST_F(AdminTest, ReflectionListsTheServices) {
  Start({.address = "127.0.0.1:0"});
  using Request = reflection::ServerReflectionRequest;
  using Response = reflection::ServerReflectionResponse;
  const auto channel = Channel();
  const auto context = Context();
  // As generated code does it; ours has another package.
  const grpc::internal::RpcMethod method(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::internal::RpcMethod::BIDI_STREAMING);
  const std::unique_ptr<grpc::ClientReaderWriter<Request, Response>> stream(
      grpc::internal::ClientReaderWriterFactory<Request, Response>::Create(
          channel.get(), method, context.get()));
  Request request;
  request.set_list_services("*");
  ASSERT_TRUE(stream->Write(request));
  Response response;
  ASSERT_TRUE(stream->Read(&response));
  std::set<std::string> services;
  for (const auto& service : response.list_services_response().service()) {
    services.insert(service.name());
  }
  // Not the data plane's service.
  EXPECT_EQ(services, (std::set<std::string>{
                          "grpc.channelz.v1.Channelz", "grpc.health.v1.Health",
                          "grpc.reflection.v1alpha.ServerReflection"}));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(AdminTest, ChannelzShowsTheServer) {
  Start({.address = "127.0.0.1:0"});
  const auto channel = Channel();
  const auto context = Context();
  const grpc::internal::RpcMethod method(
      "/grpc.channelz.v1.Channelz/GetServers",
      grpc::internal::RpcMethod::NORMAL_RPC);
  const grpc::Slice empty;
  grpc::ByteBuffer response;
  const grpc::Status status =
      grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
          channel.get(), method, context.get(), grpc::ByteBuffer(&empty, 1),
          &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_GT(response.Length(), 0u);
}

TEST_F(AdminTest, AUnixSocketIsServedAndRemoved) {
  char name[] = "/tmp/hlXXXXXX";
  const std::string directory = mkdtemp(name);
  const std::string path = directory + "/a.sock";
  Start({.address = "unix://" + path});
  EXPECT_EQ(admin_->address(), "unix://" + path);
  EXPECT_EQ(Health(), Serving::NOT_SERVING);
  admin_ = nullptr;
  EXPECT_FALSE(std::filesystem::exists(path));
  std::filesystem::remove_all(directory);
}

TEST_F(AdminTest, UsersThatAreNotAllowedAreRefused) {
  char name[] = "/tmp/hlXXXXXX";
  const std::string directory = mkdtemp(name);
  Start({.address = "unix://" + directory + "/a.sock",
         .allowed_uids = {4'000'000'000}});
  Serving response;
  EXPECT_EQ(Check(Channel(), "", &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  std::filesystem::remove_all(directory);
}

TEST_F(AdminTest, AnAddressInUseNamesTheKey) {
  Start({.address = "127.0.0.1:0"});
  const absl::Status status =
      Admin::Start({.address = admin_->address()}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(),
            "listen.admin: cannot listen on " + admin_->address() +
                ": Address already in use (set listen.admin to another "
                "address, or to \"\" for none)");
}

TEST_F(AdminTest, ConnectionsAreCappedAndTheirPlacesAreFreed) {
  Start({.address = "127.0.0.1:0", .max_connections = 3});
  std::vector<std::shared_ptr<grpc::Channel>> open;
  Serving response;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(Check(open.emplace_back(Channel()), "", &response).ok()) << i;
  }
  EXPECT_EQ(Check(Channel(), "", &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  // The others are not affected, and the place of one that leaves is free.
  EXPECT_TRUE(Check(open[0], "", &response).ok());
  open.pop_back();
  EXPECT_TRUE(Eventually([&] { return Check(Channel(), "", &response).ok(); }));
}

}  // namespace
}  // namespace hotline::server
