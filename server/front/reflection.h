// gRPC's server reflection: which services there are, and the files that
// describe them.
#ifndef HOTLINE_SERVER_FRONT_REFLECTION_H_
#define HOTLINE_SERVER_FRONT_REFLECTION_H_

#include <string>
#include <string_view>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "hotline/reflection/reflection.pb.h"

namespace hotline::server {

inline constexpr std::string_view kReflectionV1 =
    "grpc.reflection.v1.ServerReflection";
inline constexpr std::string_view kReflectionV1Alpha =
    "grpc.reflection.v1alpha.ServerReflection";

// Immutable, thread-safe.
class Reflection {
 public:
  // Lists `services`, and reflection itself. Describes whatever is compiled
  // into the process.
  explicit Reflection(std::vector<std::string> services);

  void Answer(const reflection::ServerReflectionRequest& request,
              reflection::ServerReflectionResponse* response) const;

 private:
  // The messages of our own package under the names of gRPC's.
  void AddOwn(const std::string& package);

  std::vector<std::string> services_;
  google::protobuf::DescriptorPool pool_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_REFLECTION_H_
