// Enforces the policy and its quotas, and audits refusals (log and metrics).
//
// Thread safety: Gatekeeper is thread-safe. No call blocks.
#ifndef HOTLINE_SERVER_BROKER_GATEKEEPER_H_
#define HOTLINE_SERVER_BROKER_GATEKEEPER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/time.h"
#include "server/broker/call_metrics.h"
#include "server/broker/error.h"
#include "server/broker/identity.h"
#include "server/broker/policy.h"

namespace hotline::server {

// One unit of what a quota counts, held while this lives. Move-only.
class QuotaToken {
 public:
  QuotaToken() = default;
  QuotaToken(QuotaToken&& other) noexcept
      : identity_(std::move(other.identity_)),
        counter_(std::exchange(other.counter_, nullptr)) {}
  QuotaToken& operator=(QuotaToken&& other) noexcept {
    std::swap(identity_, other.identity_);
    std::swap(counter_, other.counter_);
    return *this;
  }
  ~QuotaToken() {
    if (counter_ != nullptr) counter_->fetch_sub(1, std::memory_order_relaxed);
  }

  // Takes one of `most` units (0: no limit) of `counter`, a member of
  // `identity`. False: none is left. REQUIRES: this holds none.
  bool Take(const IdentityPtr& identity, std::atomic<int>* counter, int most);

 private:
  IdentityPtr identity_;
  std::atomic<int>* counter_ = nullptr;
};

// Why a caller was refused: the label of denials_total.
enum class Denial : uint8_t { kNotAuthorized, kNoIdentity, kNotYours, kQuota };
inline constexpr std::array<std::string_view, 4> kDenials = {
    "not_authorized", "no_identity", "not_yours", "quota"};

class Gatekeeper {
 public:
  // Null: allowed, within `quota`. `who` null: the caller has no identity.
  // Counts the call against requests_per_second.
  //
  // Errors: PERMISSION_DENIED/NOT_AUTHORIZED, UNAUTHENTICATED/NO_IDENTITY,
  // RESOURCE_EXHAUSTED/QUOTA with RetryInfo. Each is audited.
  ErrorPtr Check(const Policy& policy, RpcMethod rpc, const IdentityPtr& who,
                 const Destination& to, Instant now, Quota* quota);

  // RESOURCE_EXHAUSTED/QUOTA for another limit of a quota; audited.
  ErrorPtr OverQuota(RpcMethod rpc, const IdentityPtr& who,
                     const Destination& to, std::string_view limit,
                     int64_t most, Duration retry_after);

  // Audits an error made elsewhere, if it is LEASE_NOT_YOURS.
  void Note(RpcMethod rpc, const IdentityPtr& who, const Error& error);

  // The identity whose quota counts: `who`, or one that all callers without an
  // identity share.
  const IdentityPtr& Accountable(const IdentityPtr& who) const {
    return who != nullptr ? who : anonymous_;
  }

  // Counts a call that needs a connection.
  void NoteCall(const IdentityPtr& who) const { Accountable(who)->calls.Add(); }
  // Of all callers without an identity, under the policy's name for them.
  IdentityUsage anonymous() const {
    return {"anonymous", anonymous_->calls.Read(), anonymous_->denials};
  }

  uint64_t denials(RpcMethod rpc, Denial denial) const {
    return denials_[static_cast<size_t>(rpc)][static_cast<size_t>(denial)].load(
        std::memory_order_relaxed);
  }

 private:
  void Audit(Denial denial, RpcMethod rpc, const IdentityPtr& who,
             const Destination& to);

  const IdentityPtr anonymous_ = std::make_shared<const Identity>();
  std::array<std::array<std::atomic<uint64_t>, kDenials.size()>,
             kRuledMethods.size()>
      denials_{};
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_GATEKEEPER_H_
