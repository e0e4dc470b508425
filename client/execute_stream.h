// A request with streamed bodies, in constant memory.
//
//   hotline::v1::ExecuteStreamHead head;
//   head.set_url("https://api.example.com/v1/things.tar");
//   hotline::client::ExecuteStream stream = (*client)->OpenStream(head);
//   stream.EndBody();                       // Or Send(piece), … before it.
//   auto answer = stream.ReadHead();
//   for (std::string piece; stream.ReadBody(&piece);) Use(piece);
//   auto end = stream.Finish();             // Confirms that it is complete.
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

// Move-only; the destructor cancels an unfinished stream. All functions block,
// at most until the call's deadline.
//
// Thread safety: one thread may send while another reads; Cancel may be called
// from any. Two threads are needed if a body exceeds what the ends and the
// network buffer, and the answer begins before the end of the request.
//
// The client does not retry (the broker does, as the contract allows): the
// caller has the body, and decides.
class ExecuteStream {
 public:
  ExecuteStream(ExecuteStream&& other) noexcept;
  ExecuteStream& operator=(ExecuteStream&& other) noexcept;
  ~ExecuteStream();

  // The next piece of the body. Blocks until it is taken. False: the request
  // has ended, and Finish returns the reason; an upstream may answer without
  // reading the whole body.
  bool Send(std::string_view piece);
  // Marks the body as complete. False as for Send.
  bool EndBody();

  // The answer's head; the first call waits for it. Errors as for Finish.
  absl::StatusOr<v1::ExecuteStreamResponseHead> ReadHead();
  // The next piece of the answer's body. False: there is no more, or the call
  // has failed; Finish tells which.
  bool ReadBody(std::string* piece);

  // Skips the unread rest of the answer, and returns how the call ended; only
  // OK means that the answer is complete. The code of an error is the gRPC
  // code; GetErrorInfo returns the reason.
  absl::StatusOr<v1::ExecuteStreamResponseEnd> Finish();

  // Ends the call; functions blocked in it return.
  void Cancel();

 private:
  friend class BrokerClient;
  friend class Lease;
  struct Rpc;
  ExecuteStream(std::shared_ptr<Channel> channel,
                const v1::ExecuteStreamHead& head, const CallOptions& options);

  // Reads the next message that has a part; false at the end.
  bool ReadMessage(v1::ExecuteStreamResponse* message);

  std::unique_ptr<Rpc> rpc_;  // Null: moved from.
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_EXECUTE_STREAM_H_
