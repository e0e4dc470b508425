#include "server/front/reflection.h"

#include <set>

#include "google/protobuf/descriptor.pb.h"
#include "grpc/health/v1/health.pb.h"
#include "gtest/gtest.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::server {
namespace {

using google::protobuf::FileDescriptorProto;
using Request = reflection::ServerReflectionRequest;
using Response = reflection::ServerReflectionResponse;

const Reflection& Subject() {
  // Referenced, so that their files are linked.
  EXPECT_NE(v1::ExecuteRequest::descriptor(), nullptr);
  EXPECT_NE(grpc::health::v1::HealthCheckRequest::descriptor(), nullptr);
  static const Reflection subject(
      {"hotline.v1.Broker", "grpc.health.v1.Health"});
  return subject;
}

Response Ask(const Request& request) {
  Response response;
  Subject().Answer(request, &response);
  EXPECT_EQ(response.original_request().SerializeAsString(),
            request.SerializeAsString());
  return response;
}

std::vector<FileDescriptorProto> Files(const Response& response) {
  std::vector<FileDescriptorProto> out;
  const auto& answer = response.file_descriptor_response();
  for (const std::string& file : answer.file_descriptor_proto()) {
    EXPECT_TRUE(out.emplace_back().ParseFromString(file));
  }
  return out;
}

TEST(ReflectionTest, ListsTheServicesAndItself) {
  Request request;
  request.set_list_services("*");
  std::set<std::string> names;
  const Response response = Ask(request);
  for (const auto& service : response.list_services_response().service()) {
    names.insert(service.name());
  }
  EXPECT_EQ(
      names,
      (std::set<std::string>{
          "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection", "hotline.v1.Broker"}));
}

TEST(ReflectionTest, EverySymbolLeadsToItsFileAndWhatThatImports) {
  const struct {
    const char* symbol;
    const char* file;
  } rows[] = {
      {"hotline.v1.Broker", "hotline/v1/broker.proto"},
      {"hotline.v1.Broker.Execute", "hotline/v1/broker.proto"},
      {"hotline.v1.ExecuteRequest", "hotline/v1/broker.proto"},
      {"grpc.health.v1.Health", "grpc/health/v1/health.proto"},
      {"grpc.reflection.v1.ServerReflection",
       "grpc/reflection/v1/reflection.proto"},
      {"grpc.reflection.v1alpha.ServerReflectionRequest",
       "grpc/reflection/v1alpha/reflection.proto"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.symbol);
    Request request;
    request.set_file_containing_symbol(row.symbol);
    const std::vector<FileDescriptorProto> files = Files(Ask(request));
    ASSERT_FALSE(files.empty());
    EXPECT_EQ(files[0].name(), row.file);
    std::set<std::string> names;
    for (const FileDescriptorProto& file : files) {
      EXPECT_TRUE(names.insert(file.name()).second);
    }
    for (const FileDescriptorProto& file : files) {
      for (const std::string& import : file.dependency()) {
        EXPECT_TRUE(names.contains(import)) << import;
      }
    }
    // Also by file name.
    Request by_name;
    by_name.set_file_by_filename(row.file);
    ASSERT_FALSE(Files(Ask(by_name)).empty());
  }
}

TEST(ReflectionTest, ItsOwnMessagesHaveTheNamesOfGrpc) {
  Request request;
  request.set_file_containing_symbol("grpc.reflection.v1.ServerReflection");
  const FileDescriptorProto file = Files(Ask(request)).at(0);
  EXPECT_EQ(file.package(), "grpc.reflection.v1");
  EXPECT_EQ(file.service(0).method(0).input_type(),
            ".grpc.reflection.v1.ServerReflectionRequest");
  EXPECT_EQ(file.SerializeAsString().find("hotline"), std::string::npos);
}

TEST(ReflectionTest, AnUnknownSymbolIsNotFound) {
  Request requests[4];
  requests[0].set_file_by_filename("none.proto");
  requests[1].set_file_containing_symbol("none.None");
  requests[2].mutable_file_containing_extension()->set_containing_type("n.N");
  requests[3].set_all_extension_numbers_of_type("n.N");
  for (const Request& request : requests) {
    EXPECT_EQ(Ask(request).error_response().error_code(), 5);
  }
  EXPECT_EQ(Ask(Request()).error_response().error_code(), 3);
}

TEST(ReflectionTest, ATypeWithoutExtensionsHasNone) {
  Request request;
  request.set_all_extension_numbers_of_type("hotline.v1.ExecuteRequest");
  const Response response = Ask(request);
  EXPECT_EQ(response.all_extension_numbers_response().base_type_name(),
            "hotline.v1.ExecuteRequest");
  EXPECT_EQ(response.all_extension_numbers_response().extension_number_size(),
            0);
}

}  // namespace
}  // namespace hotline::server
