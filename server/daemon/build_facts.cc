#include "server/daemon/build_facts.h"

#include "absl/strings/str_replace.h"
#include "ares.h"
#include "base/commit.h"
#include "boost/version.hpp"
#include "google/protobuf/stubs/common.h"
#include "grpcpp/version_info.h"
#include "net/tls/tls.h"
#include "nghttp2/nghttp2.h"

namespace hotline::server {

std::vector<std::pair<std::string, std::string>> BuildFacts() {
  return {
      {"commit", kCommit},
      {"boringssl", net::TlsLibraryVersion()},
      {"nghttp2", nghttp2_version(0)->version_str},
      {"cares", ares_version(nullptr)},
      {"grpc", GRPC_CPP_VERSION_STRING},
      {"protobuf",
       google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION)},
      {"boost", absl::StrReplaceAll(BOOST_LIB_VERSION, {{"_", "."}})},
  };
}

}  // namespace hotline::server
