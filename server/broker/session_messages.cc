#include "server/broker/session_messages.h"

#include "server/broker/wire_writer.h"

namespace hotline::server {
namespace {

// Kept for the next message.
constexpr size_t kKeptBytes = 64 << 10;

}  // namespace

uint8_t* Outgoing::Extend(size_t size) {
  const size_t before = message_.size();
  message_.resize(before + LengthDelimitedSize(size));
  return WriteLength(v1::SessionResponse::kResultsFieldNumber, size,
                     reinterpret_cast<uint8_t*>(message_.data() + before));
}

void Outgoing::Add(const v1::SessionResult& result, size_t size) {
  result.SerializeWithCachedSizesToArray(Extend(size));
}

void Outgoing::Add(uint64_t id, const ExecuteAnswer& answer, size_t size,
                   std::shared_ptr<Call> call) {
  uint8_t* to = Extend(OptionalVarintSize(id) + LengthDelimitedSize(size));
  to = WriteOptionalVarint(v1::SessionResult::kIdFieldNumber, id, to);
  to = WriteLength(v1::SessionResult::kExecuteFieldNumber, size, to);
  answer.Encode(to);
  calls_.push_back(std::move(call));
}

void Outgoing::Clear() {
  arena_.get()->Reset();
  calls_.clear();
  message_.clear();
  if (message_.capacity() > kKeptBytes) message_.shrink_to_fit();
  counted = 0;
}

}  // namespace hotline::server
