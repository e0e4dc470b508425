#include "server/front/caller.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/grpc_security_constants.h"

namespace hotline::server {
namespace {

constexpr char kUid[] = "hotline_uid";

std::vector<std::string_view> Find(const grpc::AuthContext& context,
                                   const char* name) {
  std::vector<std::string_view> out;
  for (const grpc::string_ref& value : context.FindPropertyValues(name)) {
    out.emplace_back(value.data(), value.size());
  }
  return out;
}

}  // namespace

IdentityPtr IdentityOf(const grpc::AuthContext& context, IdentityTable* table) {
  const auto uid = Find(context, kUid);
  if (!uid.empty()) return table->Get(uid.front());
  if (!context.IsPeerAuthenticated()) return nullptr;
  const auto common_name = Find(context, GRPC_X509_CN_PROPERTY_NAME);
  const std::string name = NameOfCertificate(
      Find(context, GRPC_PEER_URI_PROPERTY_NAME),
      Find(context, GRPC_PEER_DNS_PROPERTY_NAME),
      common_name.empty() ? std::string_view() : common_name.front());
  return name.empty() ? nullptr : table->Get(name);
}

// Writes the uid into each connection's context, before its first call is seen
// by anybody.
class UidAcceptors::Marker final : public grpc::AuthMetadataProcessor {
 public:
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
  std::string uid_;  // Set before the first connection is delivered.
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

grpc::experimental::ExternalConnectionAcceptor* UidAcceptors::AcceptorOf(
    uint32_t uid) {
  const auto found = lane_of_.find(uid);
  if (found != lane_of_.end()) return lanes_[found->second].acceptor.get();
  const int next = static_cast<int>(lane_of_.size());
  if (next >= kMost) return nullptr;
  lane_of_.emplace(uid, next);
  lanes_[next].marker->set_uid(uid);
  return lanes_[next].acceptor.get();
}

}  // namespace hotline::server
