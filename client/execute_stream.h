// A request whose bodies pass in pieces, in constant memory.
//
//   hotline::v1::ExecuteStreamHead head;
//   head.set_url("https://api.example.com/v1/things.tar");
//   hotline::client::ExecuteStream stream = (*client)->OpenStream(head);
//   stream.EndBody();                       // Or Send(piece), … before it.
//   auto answer = stream.ReadHead();
//   for (std::string piece; stream.ReadBody(&piece);) Use(piece);
//   auto end = stream.Finish();             // Without it nothing is certain.
#ifndef HOTLINE_CLIENT_EXECUTE_STREAM_H_
#define HOTLINE_CLIENT_EXECUTE_STREAM_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

class Channel;
struct CallOptions;

// Move-only; one that is destroyed before it is finished is cancelled. Every
// call blocks, until the call's deadline at the latest.
//
// Thread safety: one thread may send while another one reads; Cancel from any.
// A body that is longer than what the ends and the network between them hold,
// and an answer that begins before the request's end, need both threads.
//
// Nothing is repeated by this side (the broker repeats what the contract lets
// it): the caller has the body, and decides.
class ExecuteStream {
 public:
  ExecuteStream(ExecuteStream&& other) noexcept;
  ExecuteStream& operator=(ExecuteStream&& other) noexcept;
  ~ExecuteStream();

  // The next piece of the body. Blocks while nobody takes it. False: the
  // request is over, for a reason that Finish knows; an upstream may well
  // answer without having read all.
  bool Send(std::string_view piece);
  // The body is complete. False as for Send.
  bool EndBody();

  // The answer's head: waits for it once, and then has it. Errors are those of
  // Finish.
  absl::StatusOr<v1::ExecuteStreamResponseHead> ReadHead();
  // The next piece of the answer's body; false: there is no more, or the call
  // has failed. Finish knows which.
  bool ReadBody(std::string* piece);

  // Passes over what was not read of the answer, and says how the call ended:
  // only with this the answer is known to be complete. The code of an error is
  // the gRPC code; GetErrorInfo tells the reason.
  absl::StatusOr<v1::ExecuteStreamResponseEnd> Finish();

  // Ends the call; whoever is blocked in it comes back.
  void Cancel();

 private:
  friend class BrokerClient;
  friend class Lease;
  struct Rpc;
  ExecuteStream(std::shared_ptr<Channel> channel,
                const v1::ExecuteStreamHead& head, const CallOptions& options);

  // Until something other than what says nothing has come; false at the end.
  bool ReadMessage(v1::ExecuteStreamResponse* message);

  std::unique_ptr<Rpc> rpc_;  // Null: moved from.
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_EXECUTE_STREAM_H_
