// A tunnel through the broker: bytes both ways over a dedicated connection.
//
//   hotline::v1::TunnelOpen open;
//   open.set_target("tcp://redis.example.com:6379");
//   auto tunnel = (*client)->OpenTunnel(open);
//   (*tunnel)->Write("PING\r\n");
//   std::optional<std::string> answer = (*tunnel)->Read();
#ifndef HOTLINE_CLIENT_TUNNEL_H_
#define HOTLINE_CLIENT_TUNNEL_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

// Created by BrokerClient::OpenTunnel. One thread may read while another
// writes; Cancel may be called from any thread. All other calls block until the
// tunnel makes progress or ends.
//
// The destructor cancels a tunnel that has not ended; the broker then closes
// its connection.
class Tunnel {
 public:
  virtual ~Tunnel() = default;

  // The broker's first message: connection, timings, the upgrade's headers.
  virtual const v1::TunnelOpened& opened() const = 0;

  // Sends `data`, in several messages if it is long. False: the tunnel has
  // ended; Finish returns the reason.
  virtual bool Write(std::string_view data) = 0;
  // Ends this side. The upstream receives the end, and may go on sending.
  virtual void CloseWrite() = 0;

  // The next bytes from the upstream, never empty. nullopt, also on further
  // calls: it has ended its side, or the tunnel has ended.
  virtual std::optional<std::string> Read() = 0;

  // Waits until both sides have ended or the tunnel has failed, and returns the
  // result. Unread bytes are dropped. Call it on the thread that reads.
  virtual absl::StatusOr<v1::TunnelReceipt> Finish() = 0;

  // Ends the tunnel: Finish returns CANCELLED.
  virtual void Cancel() = 0;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_TUNNEL_H_
