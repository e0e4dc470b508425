#include "server/front/reflection.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "base/text.h"
#include "google/protobuf/descriptor.pb.h"
#include "server/front/front_loop.h"
#include "server/front/server_call.h"

namespace hotline::server {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorProto;
using Request = reflection::ServerReflectionRequest;
using Response = reflection::ServerReflectionResponse;

constexpr char kOwnPackage[] = ".hotline.reflection.";

void SetNotFound(const std::string& what, Response* response) {
  reflection::ErrorResponse* const error = response->mutable_error_response();
  error->set_error_code(static_cast<int>(absl::StatusCode::kNotFound));
  error->set_error_message("not found: " + what);
}

// The file, then those that it imports, each once.
void AddFile(const FileDescriptor& file, std::set<const FileDescriptor*>* seen,
             reflection::FileDescriptorResponse* out) {
  if (!seen->insert(&file).second) return;
  FileDescriptorProto proto;
  file.CopyTo(&proto);
  proto.SerializeToString(out->add_file_descriptor_proto());
  for (int i = 0; i < file.dependency_count(); ++i) {
    AddFile(*file.dependency(i), seen, out);
  }
}

void SetFile(const FileDescriptor* file, const std::string& what,
             Response* response) {
  if (file == nullptr) return SetNotFound(what, response);
  std::set<const FileDescriptor*> seen;
  AddFile(*file, &seen, response->mutable_file_descriptor_response());
}

const FileDescriptor* FileOfExtension(
    const DescriptorPool& pool, const reflection::ExtensionRequest& request) {
  const auto* type = pool.FindMessageTypeByName(request.containing_type());
  if (type == nullptr) return nullptr;
  const FieldDescriptor* const field =
      pool.FindExtensionByNumber(type, request.extension_number());
  return field == nullptr ? nullptr : field->file();
}

void SetExtensions(const DescriptorPool& pool, const std::string& name,
                   Response* response) {
  const auto* type = pool.FindMessageTypeByName(name);
  if (type == nullptr) return SetNotFound(name, response);
  std::vector<const FieldDescriptor*> extensions;
  pool.FindAllExtensions(type, &extensions);
  auto* out = response->mutable_all_extension_numbers_response();
  out->set_base_type_name(name);
  for (const FieldDescriptor* extension : extensions) {
    out->add_extension_number(extension->number());
  }
}

// ".hotline.reflection.X" becomes ".PACKAGE.X".
void Rename(const std::string& package, std::string* type) {
  if (type->starts_with(kOwnPackage)) {
    type->replace(1, sizeof kOwnPackage - 3, package);
  }
}

// One message at a time: the next is read when the answer to the one before
// has been taken.
class ReflectionCall final : public ServerCall {
 public:
  explicit ReflectionCall(const CallOrigin& origin)
      : ServerCall(origin, std::nullopt) {
    ArmDeadline();
    ReadNext();
  }

  void OnSendable() override { ReadNext(); }

 private:
  void OnMessage(std::string_view message) override {
    Request request;
    if (ErrorPtr error = Parse(message, &request)) {
      return End(std::move(error));
    }
    Response response;
    home().parts().reflection->Answer(request, &response);
    if (Send(response) == 0) ReadNext();
  }
  void OnHalfClose() override { Finish(nullptr); }
  void CancelRun() override {}
};

}  // namespace

Reflection::Reflection(std::vector<std::string> services)
    : services_(std::move(services)), pool_(DescriptorPool::generated_pool()) {
  for (const std::string_view name : {kReflectionV1, kReflectionV1Alpha}) {
    services_.emplace_back(name);
    AddOwn(std::string(name.substr(0, name.rfind('.'))));
  }
  std::sort(services_.begin(), services_.end());
}

void Reflection::AddOwn(const std::string& package) {
  // gRPC's library may have registered it.
  const std::string service = package + ".ServerReflection";
  if (pool_.FindServiceByName(service) != nullptr) return;
  FileDescriptorProto file;
  Request::descriptor()->file()->CopyTo(&file);
  std::string path = package;
  std::replace(path.begin(), path.end(), '.', '/');
  file.set_name(ToUtf8(path + "/reflection.proto"));
  file.set_package(package);
  for (auto& message : *file.mutable_message_type()) {
    for (auto& field : *message.mutable_field()) {
      if (field.has_type_name()) Rename(package, field.mutable_type_name());
    }
  }
  for (auto& entry : *file.mutable_service()) {
    for (auto& method : *entry.mutable_method()) {
      Rename(package, method.mutable_input_type());
      Rename(package, method.mutable_output_type());
    }
  }
  pool_.BuildFile(file);
}

void Reflection::Answer(const Request& request, Response* response) const {
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  switch (request.message_request_case()) {
    case Request::kFileByFilename:
      return SetFile(pool_.FindFileByName(request.file_by_filename()),
                     request.file_by_filename(), response);
    case Request::kFileContainingSymbol:
      return SetFile(
          pool_.FindFileContainingSymbol(request.file_containing_symbol()),
          request.file_containing_symbol(), response);
    case Request::kFileContainingExtension:
      return SetFile(
          FileOfExtension(pool_, request.file_containing_extension()),
          request.file_containing_extension().containing_type(), response);
    case Request::kAllExtensionNumbersOfType:
      return SetExtensions(pool_, request.all_extension_numbers_of_type(),
                           response);
    case Request::kListServices:
      for (const std::string& service : services_) {
        response->mutable_list_services_response()->add_service()->set_name(
            ToUtf8(service));
      }
      return;
    case Request::MESSAGE_REQUEST_NOT_SET:
      break;
  }
  reflection::ErrorResponse* const error = response->mutable_error_response();
  error->set_error_code(static_cast<int>(absl::StatusCode::kInvalidArgument));
  error->set_error_message("the request asks for nothing that is known");
}

ServerCall* NewReflectionCall(const CallOrigin& origin) {
  return new ReflectionCall(origin);
}

}  // namespace hotline::server
