// The answer of an Execute, and its encoding as v1.ExecuteResponse.
//
//   ExecuteAnswer answer(&arena);
//   auto call = broker.NewExecute(&request, &answer, context, &completion);
//   ...  // After the completion without an error:
//   const size_t size = answer.ByteSize();
//   answer.Encode(to);  // `size` bytes.
//
// The upstream's header fields are encoded from where they were parsed, without
// a protobuf object for each field and each of its strings.
//
// Thread safety: none.
#ifndef HOTLINE_SERVER_BROKER_EXECUTE_ANSWER_H_
#define HOTLINE_SERVER_BROKER_EXECUTE_ANSWER_H_

#include <cstddef>
#include <cstdint>

#include "google/protobuf/arena.h"
#include "hotline/v1/broker.pb.h"
#include "upstream/types.h"

namespace hotline::server {

class ExecuteAnswer {
 public:
  // The receipt is made in `arena`, which must outlive the answer.
  explicit ExecuteAnswer(google::protobuf::Arena* arena)
      : receipt_(google::protobuf::Arena::CreateMessage<v1::Receipt>(arena)) {}

  // Takes over the upstream's answer. Names that are not UTF-8 are replaced as
  // ToUtf8 does.
  void Take(upstream::Response response);
  v1::Receipt* receipt() { return receipt_; }

  // Of the encoded message. REQUIRES: the answer does not change any more.
  size_t ByteSize() const;
  // Writes ByteSize() bytes and returns their end. REQUIRES: ByteSize was
  // called.
  uint8_t* Encode(uint8_t* to) const;

 private:
  upstream::Response response_;
  v1::Receipt* const receipt_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EXECUTE_ANSWER_H_
