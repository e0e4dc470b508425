// Tunnel, as a call: bytes in both directions on a lease, or on a connection of
// its own.
//
// Until the upstream has confirmed that the tunnel is open, it is a call like
// any other: it waits for a slot and may take another connection. From then on
// it only passes bytes, and ends with its connection.
#ifndef HOTLINE_SERVER_BROKER_TUNNEL_H_
#define HOTLINE_SERVER_BROKER_TUNNEL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/broker/attempt.h"
#include "server/broker/pooled_call.h"
#include "server/broker/validate.h"

namespace hotline::server {

class TunnelCall final : public PooledCall,
                         public Tunnel,
                         private upstream::StreamHandler {
 public:
  // See Broker::NewTunnel.
  TunnelCall(BrokerParts* parts, v1::TunnelOpen open, CallContext context,
             TunnelCaller* caller, Completion* completion);

  // Tunnel:
  bool Send(std::string_view data) override;
  void EndSend() override;
  void OnWritten(size_t bytes) override;

 private:
  // PooledCall:
  ErrorPtr Prepare(Instant now) override;
  void OnSlot(pool::SlotLease slot, Instant now) override;
  void OnEnded() override { attempt_.Cancel(); }
  void Describe(CallRecord* record) override;

  // upstream::StreamHandler:
  void OnHead(int status, std::vector<upstream::Header> headers) override;
  void OnBody(std::string piece) override;
  void OnTrailers(std::vector<upstream::Header> trailers) override;
  void OnSendable() override;
  void OnDone(upstream::CallResult result) override;

  // Checks that the presented lease fits the tunnel, and takes over its target.
  ErrorPtr CheckLease(const pool::CallStart& start);
  bool MayRetry(Instant now) const;
  ErrorPtr ErrorOfResult() const;
  ErrorPtr UpgradeRefused() const;
  // Counts the tunnel as open.
  void BeginCounting();
  // Counts `received` bytes, and those sent since the last time.
  void CountBytes(size_t received);
  // Bytes have passed, in either direction.
  void NotePassage(Instant now);
  // Checks now, and again in time, whether opening takes too long or no bytes
  // pass any more.
  void WatchIdleness(Instant now);
  void WriteReceipt(Instant now);

  const v1::TunnelOpen open_;
  TunnelCaller* const caller_;
  Duration idle_timeout_{0};
  ParsedUrl url_;  // Of the upgrade, if there is one.
  Attempt attempt_;
  int retries_ = 0;

  // Written by the upstream's events, one at a time.
  std::atomic<bool> opened_{false};
  CallMetrics::Running running_;  // While it is open.
  uint64_t counted_sent_ = 0;     // Of sent_, for the metrics.
  int refused_with_ = 0;          // The upgrade's status if that was not 101.
  Instant opened_at_{};

  std::atomic<uint64_t> sent_{0};
  std::atomic<uint64_t> received_{0};
  std::atomic<int64_t> passed_at_{0};  // In nanoseconds, of our clock.
  bool watched_ = false;
  std::atomic<bool> idle_{false};  // Ended because no bytes passed.
  std::atomic<bool> late_{false};  // Ended because it did not open in time.
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_TUNNEL_H_
