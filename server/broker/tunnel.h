// Tunnel, as a call: on a lease, or on a connection of its own.
#ifndef HOTLINE_SERVER_BROKER_TUNNEL_H_
#define HOTLINE_SERVER_BROKER_TUNNEL_H_

#include <atomic>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/broker/call.h"
#include "server/broker/validate.h"

namespace hotline::server {

// Until the upstream has said that the tunnel is open, it is a call like any
// other: it waits, and may take another connection. From then on it only passes
// bytes on, and ends with its connection.
class TunnelCall final : public PooledCall,
                         public Tunnel,
                         private upstream::StreamHandler {
 public:
  TunnelCall(Broker* broker, v1::TunnelOpen open, CallContext context,
             TunnelCaller* caller, Completion* completion);

  // Tunnel:
  bool Send(std::string_view data) override;
  void EndSend() override;
  void OnWritten(size_t bytes) override;

 private:
  // What it runs on.
  struct Slot {
    LeaseId lease;
    pool::ConnId conn = 0;
    uint64_t uses = 0;
    Instant ready_since{};
  };

  RpcMethod rpc() const override { return RpcMethod::kTunnel; }
  ErrorPtr Prepare(Instant now) override;
  void OnSlot(const pool::Grant& grant) override;
  void EndRunning() override;
  void OnCompleting(const ErrorPtr& error) override;

  // upstream::StreamHandler:
  void OnHead(int status, std::vector<upstream::Header> headers) override;
  void OnBody(std::string piece) override;
  void OnTrailers(std::vector<upstream::Header> trailers) override;
  void OnSendable() override { caller_->AskForMore(); }
  void OnDone(upstream::CallResult result) override;

  ErrorPtr StartOnLease(Instant now);
  // What is wrong with the lease for this tunnel.
  ErrorPtr CheckLease(const pool::CallStart& start);
  void Run(Instant now);
  void GiveBack(Instant now);
  bool MayTryAgain(const upstream::CallResult& result, Instant now);
  ErrorPtr ErrorOf(const upstream::CallResult& result) const;
  // Something has passed.
  void Pass(Instant now);
  // Looks now and then whether it takes too long to open, or nothing passes any
  // more.
  void WatchIdleness(Instant now);
  void WriteReceipt(Instant now);

  const v1::TunnelOpen open_;
  TunnelCaller* const caller_;
  std::optional<LeaseId> lease_;  // The caller's.
  Duration idle_timeout_{0};
  ParsedUrl url_;  // Of the upgrade, where there is one.

  Slot slot_;
  pool::DialTimings dial_;  // Of a connection made for it.
  std::atomic<pool::Handle> handle_{0};
  int tries_again_ = 0;

  // Of what the upstream tells; one at a time.
  std::atomic<bool> opened_{false};
  int refused_with_ = 0;  // The status that was not 101.
  Instant opened_at_{};

  std::atomic<uint64_t> sent_{0};
  std::atomic<uint64_t> received_{0};
  std::atomic<int64_t> passed_at_{0};  // In nanoseconds, of our clock.
  bool watched_ = false;
  std::atomic<bool> idle_{false};  // It is ended because nothing passes.
  std::atomic<bool> late_{false};  // It is ended because it does not open.
  std::atomic<bool> over_{false};
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_TUNNEL_H_
