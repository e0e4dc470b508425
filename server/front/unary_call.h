// A call with one message each way.
#ifndef HOTLINE_SERVER_FRONT_UNARY_CALL_H_
#define HOTLINE_SERVER_FRONT_UNARY_CALL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "google/protobuf/arena.h"
#include "google/protobuf/message_lite.h"
#include "server/front/server_call.h"

namespace hotline::server {

// Both messages are made in an arena whose first block is part of the call: a
// small call takes no other memory. ResponseType is a protobuf message, or is
// made of an arena and encodes itself, as ExecuteAnswer.
template <typename RequestType, typename ResponseType>
class UnaryCall : public ServerCall {
 public:
  UnaryCall(std::optional<RpcMethod> method, const CallOrigin& origin)
      : ServerCall(origin, method), arena_(block_, sizeof block_) {
    ReadNext();
  }

 protected:
  // The request is complete. Leads to FinishWithResponse, or Finish.
  virtual void Start() = 0;
  void CancelRun() override {}

  void FinishWithResponse() {
    if constexpr (kIsMessage) {
      this->FinishWith(*response_);
    } else {
      this->FinishWith(response_->ByteSize(),
                       [this](uint8_t* to) { response_->Encode(to); });
    }
  }
  // After it, for a large answer: it was copied on its way out.
  void DropMessages() {
    request_ = nullptr;
    response_ = nullptr;
    arena_.Reset();
  }

  const RequestType& request() const { return *request_; }
  ResponseType* response() { return response_; }

 private:
  void OnMessage(std::string_view message) final {
    if (request_ != nullptr) return RefuseCount();
    request_ = google::protobuf::Arena::CreateMessage<RequestType>(&arena_);
    if (ErrorPtr error = Parse(message, request_)) {
      return End(std::move(error));
    }
    ReadNext();
  }

  void OnHalfClose() final {
    if (request_ == nullptr) return RefuseCount();
    DisarmDeadline();
    if constexpr (kIsMessage) {
      response_ = google::protobuf::Arena::CreateMessage<ResponseType>(&arena_);
    } else {
      response_ =
          google::protobuf::Arena::Create<ResponseType>(&arena_, &arena_);
    }
    Start();
  }

  void RefuseCount() {
    End(PlainError(absl::StatusCode::kUnimplemented,
                   "the method takes exactly one message"));
  }

  static constexpr bool kIsMessage =
      std::is_base_of_v<google::protobuf::MessageLite, ResponseType>;
  static constexpr size_t kBlockBytes = 4 << 10;
  alignas(8) char block_[kBlockBytes];
  google::protobuf::Arena arena_;
  RequestType* request_ = nullptr;
  ResponseType* response_ = nullptr;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_UNARY_CALL_H_
