#include "server/broker/execute_answer.h"

#include <utility>
#include <vector>

#include "base/text.h"
#include "server/broker/wire_writer.h"

namespace hotline::server {
namespace {

using v1::ExecuteResponse;
using v1::Header;

size_t SizeOf(const upstream::Header& header) {
  return OptionalBytesSize(header.name) + OptionalBytesSize(header.value);
}

size_t SizeOf(const std::vector<upstream::Header>& headers) {
  size_t size = 0;
  for (const upstream::Header& header : headers) {
    size += LengthDelimitedSize(SizeOf(header));
  }
  return size;
}

uint8_t* Write(int field, const std::vector<upstream::Header>& headers,
               uint8_t* to) {
  for (const upstream::Header& header : headers) {
    to = WriteLength(field, SizeOf(header), to);
    to = WriteOptionalBytes(Header::kNameFieldNumber, header.name, to);
    to = WriteOptionalBytes(Header::kValueFieldNumber, header.value, to);
  }
  return to;
}

void MakeUtf8(std::vector<upstream::Header>* headers) {
  for (upstream::Header& header : *headers) {
    if (!IsUtf8(header.name)) header.name = ToUtf8(std::move(header.name));
  }
}

}  // namespace

void ExecuteAnswer::Take(upstream::Response response) {
  response_ = std::move(response);
  MakeUtf8(&response_.headers);
  MakeUtf8(&response_.trailers);
}

size_t ExecuteAnswer::ByteSize() const {
  return OptionalVarintSize(static_cast<uint64_t>(response_.status)) +
         SizeOf(response_.headers) + OptionalBytesSize(response_.body) +
         SizeOf(response_.trailers) +
         OptionalVarintSize(static_cast<uint64_t>(response_.truncated)) +
         LengthDelimitedSize(receipt_->ByteSizeLong());
}

uint8_t* ExecuteAnswer::Encode(uint8_t* to) const {
  to = WriteOptionalVarint(ExecuteResponse::kStatusFieldNumber,
                           static_cast<uint64_t>(response_.status), to);
  to = Write(ExecuteResponse::kHeadersFieldNumber, response_.headers, to);
  to =
      WriteOptionalBytes(ExecuteResponse::kBodyFieldNumber, response_.body, to);
  to = Write(ExecuteResponse::kTrailersFieldNumber, response_.trailers, to);
  to = WriteOptionalVarint(ExecuteResponse::kTruncatedFieldNumber,
                           static_cast<uint64_t>(response_.truncated), to);
  to = WriteLength(ExecuteResponse::kReceiptFieldNumber,
                   static_cast<size_t>(receipt_->GetCachedSize()), to);
  return receipt_->SerializeWithCachedSizesToArray(to);
}

}  // namespace hotline::server
