#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "server/front/grpc_wire.h"
#include "tests/fuzz/targets.h"

namespace hotline::fuzz {
namespace {

using net::HeaderField;
using net::RequestHead;
using server::GrpcEncoding;
using server::GrpcRequest;
using server::MessageReader;

std::string ReadBody(std::string_view body, GrpcEncoding encoding, size_t most,
                     const std::function<size_t(size_t)>& cut) {
  MessageReader reader(encoding, most);
  std::string text;
  while (!body.empty()) {
    const std::string piece(body.substr(0, cut(body.size())));
    body.remove_prefix(piece.size());
    reader.Add(piece);
    std::string_view message;
    MessageReader::Result result;
    while ((result = reader.Next(&message)) ==
           MessageReader::Result::kMessage) {
      HOTLINE_PROMISE(message.size() <= most);
      text.append(std::to_string(message.size()) + ":").append(message);
    }
    if (result == MessageReader::Result::kFailed) break;
    HOTLINE_PROMISE(reader.buffered_bytes() < 5 + most);
  }
  return text + reader.Finish().ToString();
}

void CheckBody(std::string_view body, unsigned flags,
               std::minstd_rand* random) {
  const GrpcEncoding encoding = static_cast<GrpcEncoding>(flags % 3);
  const size_t most = (flags & 4) != 0 ? 100 : 100'000;
  const std::string whole =
      ReadBody(body, encoding, most, [](size_t left) { return left; });
  HOTLINE_PROMISE(whole == ReadBody(body, encoding, most,
                                    [](size_t) { return size_t{1}; }));
  HOTLINE_PROMISE(whole == ReadBody(body, encoding, most, [&](size_t left) {
                    return 1 + (*random)() % std::min<size_t>(left, 64);
                  }));
}

// The path, and then "name:value" lines.
void CheckHead(std::string_view text) {
  const auto line = [&text] {
    const size_t end = text.find('\n');
    const std::string_view taken = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return taken;
  };
  RequestHead head;
  head.method = "POST";
  head.path = line();
  std::vector<HeaderField> fields = {{"content-type", "application/grpc"},
                                     {"te", "trailers"}};
  while (!text.empty()) {
    const std::string_view field = line();
    const size_t colon = std::min(field.find(':'), field.size());
    fields.push_back({field.substr(0, colon),
                      field.substr(std::min(colon + 1, field.size()))});
  }
  head.fields = fields;
  GrpcRequest request;
  const server::GrpcRefusal refusal = ParseGrpcRequest(head, &request);
  if (refusal) {
    for (const HeaderField& field : refusal.fields()) {
      HOTLINE_PROMISE(server::IsMetadataValue("x", field.value));
    }
    return;
  }
  HOTLINE_PROMISE(request.timeout >= Duration::zero());
  HOTLINE_PROMISE(head.path.size() ==
                  request.service.size() + request.method.size() + 2);
  HOTLINE_PROMISE(!request.service.empty() && !request.method.empty());
}

void CheckText(std::string_view text) {
  const bool base64 = server::IsMetadataValue("x-bin", text);
  HOTLINE_PROMISE(server::DecodeBinary(text).has_value() == base64);
  const std::string encoded = server::PercentEncode(text);
  std::string decoded;
  for (size_t i = 0; i < encoded.size(); ++i) {
    HOTLINE_PROMISE(encoded[i] >= ' ' && encoded[i] <= '~');
    if (encoded[i] != '%') {
      decoded += encoded[i];
      continue;
    }
    HOTLINE_PROMISE(i + 2 < encoded.size());
    decoded += static_cast<char>(
        std::stoi(encoded.substr(i + 1, 2), nullptr, /*base=*/16));
    i += 2;
  }
  HOTLINE_PROMISE(decoded == text);
  const server::GrpcTrailers trailers(absl::StatusCode::kInternal, text, text);
  for (const HeaderField& field : trailers.fields_alone()) {
    HOTLINE_PROMISE(server::IsMetadataValue(field.name, field.value));
  }
}

}  // namespace

void FuzzGrpcWire(std::string_view input) {
  if (input.size() < 2) return;
  const unsigned flags = static_cast<unsigned char>(input[0]);
  std::minstd_rand random(static_cast<unsigned char>(input[1]) + 1);
  input.remove_prefix(2);
  CheckBody(input, flags, &random);
  CheckHead(input);
  CheckText(input);
}

}  // namespace hotline::fuzz
