#include "server/admin/callers.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "grpcpp/security/auth_metadata_processor.h"
#include "grpcpp/security/server_credentials.h"

namespace hotline::server {
namespace {

constexpr char kUid[] = "hotline_uid";

}  // namespace

IdentityPtr IdentityOf(const grpc::AuthContext& context, IdentityTable* table) {
  const auto uid = context.FindPropertyValues(kUid);
  if (uid.empty()) return nullptr;
  return table->Get(std::string_view(uid[0].data(), uid[0].size()));
}

// Writes the uid into each connection's context, before its first call reaches
// a service.
class UidAcceptors::Marker final : public grpc::AuthMetadataProcessor {
 public:
  // Before the first connection is delivered.
  void set_uid(uint32_t uid) { uid_ = absl::StrCat("uid:", uid); }

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata&, grpc::AuthContext* context,
                       OutputMetadata*, OutputMetadata*) override {
    // Two first calls of a connection may come at once, and gRPC does not lock.
    MutexLock lock(&mu_);
    if (context->FindPropertyValues(kUid).empty()) {
      context->AddProperty(kUid, uid_);
    }
    return grpc::Status::OK;
  }

 private:
  Mutex mu_;
  std::string uid_;
};

UidAcceptors::UidAcceptors(grpc::ServerBuilder* builder) {
  for (Lane& lane : lanes_) {
    lane.marker = std::make_shared<Marker>();
    auto credentials = grpc::experimental::LocalServerCredentials(UDS);
    credentials->SetAuthMetadataProcessor(lane.marker);
    lane.acceptor = builder->experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        std::move(credentials));
  }
}

UidAcceptors::~UidAcceptors() = default;

UidAcceptors::Acceptor* UidAcceptors::AcceptorOf(uint32_t uid) {
  const auto found = lane_of_.find(uid);
  if (found != lane_of_.end()) return lanes_[found->second].acceptor.get();
  const int next = static_cast<int>(lane_of_.size());
  if (next >= kMost) return nullptr;
  lane_of_.emplace(uid, next);
  lanes_[next].marker->set_uid(uid);
  return lanes_[next].acceptor.get();
}

}  // namespace hotline::server
