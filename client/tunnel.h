// A tunnel through the broker: bytes both ways over a connection of its own.
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

// Made by BrokerClient::OpenTunnel. One thread may read while another one
// writes; Cancel may be called from any. Every other call blocks as long as the
// tunnel does.
//
// The destructor cancels a tunnel that is not over; the broker then closes its
// connection.
class Tunnel {
 public:
  virtual ~Tunnel() = default;

  // The broker's first message: connection, timings, the upgrade's headers.
  virtual const v1::TunnelOpened& opened() const = 0;

  // Sends `data`, in several messages if it is long. False: the tunnel is over;
  // Finish tells why.
  virtual bool Write(std::string_view data) = 0;
  // Nothing more will be written. The upstream is told, and may go on.
  virtual void CloseWrite() = 0;

  // What the upstream sent next, never empty. Nothing: it has ended its side,
  // or the tunnel is over; further calls say the same.
  virtual std::optional<std::string> Read() = 0;

  // How it went. Waits for the end: both sides have to end theirs, or the
  // tunnel has to fail. What is still to be read is dropped. To be called from
  // the thread that reads.
  virtual absl::StatusOr<v1::TunnelReceipt> Finish() = 0;

  // Ends it soon: Finish returns CANCELLED.
  virtual void Cancel() = 0;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_TUNNEL_H_
