// gRPC over HTTP/2, the server's side, as text and bytes: the checks of a
// request's head, messages in and out, trailers. By the specifications
// PROTOCOL-HTTP2, compression and statuscodes; no HTTP/2 session, no protobuf.
//
//   GrpcRequest request;
//   if (GrpcRefusal refusal = ParseGrpcRequest(head, &request); refusal) {
//     session.SubmitHeaders(stream, refusal.fields(), /*end=*/true);
//   }
//   MessageReader reader(request.encoding, max_message_bytes);
//   ...
//   reader.Add(bytes);                     // From OnData.
//   while (reader.Next(&message) == MessageReader::Result::kMessage) ...
//   ...
//   GrpcTrailers trailers(code, text, details);
//   session.SubmitTrailers(stream, trailers.fields());
//
// Nothing that a caller sends makes any of this fail otherwise than by a
// status: no time-out overflows, and a message costs no more memory than the
// limit allows, whatever it inflates to.
//
// Thread safety: none; one object for each call. Functions are pure.
#ifndef HOTLINE_SERVER_FRONT_GRPC_WIRE_H_
#define HOTLINE_SERVER_FRONT_GRPC_WIRE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/time.h"
#include "net/http2/request_head.h"

namespace hotline::server {

enum class GrpcEncoding : uint8_t { kIdentity, kGzip, kDeflate };

// What grpc-accept-encoding says of us.
inline constexpr std::string_view kAcceptedEncodings = "identity,deflate,gzip";

// Views of what it was parsed from.
struct GrpcRequest {
  std::string_view service;            // "hotline.v1.Broker".
  std::string_view method;             // "Execute".
  Duration timeout = Duration::max();  // max: it has none.
  GrpcEncoding encoding = GrpcEncoding::kIdentity;
  std::string_view accept_encoding;  // As the caller put it; may be empty.
  std::string_view traceparent;      // W3C's; not checked. May be empty.
};

// A complete answer that is headers alone, or nothing. Fields are views of it:
// it must stay where it is while they are used.
class GrpcRefusal {
 public:
  GrpcRefusal() = default;
  static GrpcRefusal Http(int status);
  static GrpcRefusal Status(absl::StatusCode code, std::string_view text);

  explicit operator bool() const { return http_status_ != 0; }
  int http_status() const { return http_status_; }
  absl::StatusCode code() const { return code_; }
  // Readable, not encoded.
  const std::string& text() const { return text_; }
  std::vector<net::HeaderField> fields() const;

 private:
  int http_status_ = 0;
  absl::StatusCode code_ = absl::StatusCode::kOk;
  std::string text_;
  std::string encoded_;
  std::string http_text_;
};

// Checks a request's head: method, content-type, te, path, grpc-timeout,
// grpc-encoding, and that every value is what its name promises. When it
// refuses, `request` is not to be used.
GrpcRefusal ParseGrpcRequest(const net::RequestHead& head,
                             GrpcRequest* request);

// grpc-timeout: 1 to 8 digits and a unit. Null when it is none. As long as a
// Duration can be at most.
std::optional<Duration> ParseGrpcTimeout(std::string_view text);

// Whether a metadata value is what the name promises: ASCII from blank to '~',
// or for "-bin" one or more pieces of base64, with padding or without.
bool IsMetadataValue(std::string_view name, std::string_view value);
// The bytes that a "-bin" value stands for; null when it is not base64. A
// value that several were joined to ("AA,BB") is decoded piece by piece.
std::optional<std::string> DecodeBinary(std::string_view value);

// Cuts a body into messages.
class MessageReader {
 public:
  enum class Result : uint8_t {
    kNeedMore,  // No complete message yet.
    kMessage,
    kFailed,  // See status(); nothing more is read.
  };

  MessageReader(GrpcEncoding encoding, size_t max_message_bytes);
  ~MessageReader();
  MessageReader(const MessageReader&) = delete;
  MessageReader& operator=(const MessageReader&) = delete;

  // More of the body. `bytes` must live until Next has said kNeedMore, or until
  // Keep: what is complete is not copied.
  void Add(std::string_view bytes);
  // Copies what Next has not looked at.
  void Keep();
  // `*message` is valid until the next call of anything.
  Result Next(std::string_view* message);
  // No more will come. Not OK: the body breaks off inside a message.
  absl::Status Finish() const;

  const absl::Status& status() const { return status_; }
  // Of a message that is not complete.
  size_t buffered_bytes() const { return given_ ? 0 : buffer_.size(); }
  // Of the body, what is not part of a message that Next has given.
  size_t unread_bytes() const { return input_.size() + buffered_bytes(); }

 private:
  class Inflater;
  static constexpr size_t kPrefixBytes = 5;

  Result Fail(absl::StatusCode code, std::string text);
  // Checks `prefix`; the length it announces.
  Result TakePrefix(std::string_view prefix, size_t* length);
  Result Give(std::string_view payload, std::string_view* message);

  const GrpcEncoding encoding_;
  const size_t max_message_bytes_;
  std::string_view input_;   // Of Add, or of kept_.
  bool input_kept_ = false;  // It is of kept_.
  std::string kept_;
  std::string buffer_;   // A message that came in parts, with its prefix.
  std::string message_;  // What was inflated.
  bool compressed_ = false;
  bool given_ = false;  // `buffer_` was the last message.
  std::unique_ptr<Inflater> inflater_;
  absl::Status status_;
};

// The prefix of a message that is not compressed.
using MessagePrefix = std::array<char, 5>;
MessagePrefix MakeMessagePrefix(size_t message_bytes);

// A status, as an answer's trailers. Fields are views of it: it must stay
// where it is while they are used.
class GrpcTrailers {
 public:
  // `details`: a serialized google.rpc.Status, or empty. Text that is too long
  // is cut: the peer limits its headers, too.
  GrpcTrailers(absl::StatusCode code, std::string_view text,
               std::string_view details = {});
  GrpcTrailers(const GrpcTrailers&) = delete;
  GrpcTrailers& operator=(const GrpcTrailers&) = delete;

  absl::Span<const net::HeaderField> fields() const {
    return {fields_.data(), count_};
  }
  // The same with what begins an answer: for one that is headers alone.
  absl::Span<const net::HeaderField> fields_alone() const {
    return {alone_.data(), count_ + 2};
  }

 private:
  static constexpr size_t kMost = 3;

  char code_[2];
  std::string text_;
  std::string details_;
  std::array<net::HeaderField, kMost> fields_;
  std::array<net::HeaderField, kMost + 2> alone_;
  size_t count_ = 0;
};

// What begins every answer that has messages: `:status: 200`, content-type,
// grpc-accept-encoding.
absl::Span<const net::HeaderField> AnswerHead();

// grpc-message's encoding: what is not printable ASCII, and '%', as %XX.
std::string PercentEncode(std::string_view text);

// The status that an HTTP/2 error code of a reset stands for.
absl::StatusCode StatusOfReset(uint32_t http2_code);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_GRPC_WIRE_H_
