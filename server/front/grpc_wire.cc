#include "server/front/grpc_wire.h"

#include <charconv>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"

namespace hotline::server {
namespace {

using net::HeaderField;

constexpr std::string_view kContentType = "application/grpc";
// Of a status: the peer limits the size of its headers as we do.
constexpr size_t kMostTextBytes = 2048;
constexpr size_t kMostDetailBytes = 6144;

constexpr HeaderField kAnswerHead[] = {
    {":status", "200"},
    {"content-type", kContentType},
    {"grpc-accept-encoding", kAcceptedEncodings},
};

bool IsGrpcContentType(std::string_view type) {
  const absl::string_view text(type.data(), type.size());
  if (!absl::StartsWithIgnoreCase(
          text, absl::string_view(kContentType.data(), kContentType.size()))) {
    return false;
  }
  type.remove_prefix(kContentType.size());
  return type.empty() || type[0] == '+' || type[0] == ';';
}

std::optional<GrpcEncoding> EncodingOf(std::string_view name) {
  if (name == "identity") return GrpcEncoding::kIdentity;
  if (name == "gzip") return GrpcEncoding::kGzip;
  if (name == "deflate") return GrpcEncoding::kDeflate;
  return std::nullopt;
}

// "/service/method".
bool SplitPath(std::string_view path, GrpcRequest* request) {
  if (path.empty() || path[0] != '/') return false;
  const size_t slash = path.rfind('/');
  if (slash <= 1 || slash + 1 == path.size()) return false;
  request->service = path.substr(1, slash - 1);
  request->method = path.substr(slash + 1);
  return true;
}

bool IsBase64(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         (c >= '0' && c <= '9') || c == '+' || c == '/';
}

// One value; padding is optional.
bool IsBase64(std::string_view text) {
  size_t size = text.size();
  while (size > 0 && text.size() - size < 2 && text[size - 1] == '=') --size;
  if (size < text.size() && text.size() % 4 != 0) return false;
  if (size % 4 == 1) return false;
  for (char c : text.substr(0, size)) {
    if (!IsBase64(c)) return false;
  }
  return true;
}

// Takes the next of the values that were joined with commas.
std::string_view TakePiece(std::string_view* joined) {
  const size_t comma = joined->find(',');
  std::string_view piece = joined->substr(0, comma);
  joined->remove_prefix(comma == std::string_view::npos ? joined->size()
                                                        : comma + 1);
  while (!piece.empty() && piece.front() == ' ') piece.remove_prefix(1);
  while (!piece.empty() && piece.back() == ' ') piece.remove_suffix(1);
  return piece;
}

std::string Base64(std::string_view bytes) {
  std::string text =
      absl::Base64Escape(absl::string_view(bytes.data(), bytes.size()));
  while (!text.empty() && text.back() == '=') text.pop_back();
  return text;
}

std::string Quoted(std::string_view text) {
  constexpr size_t kMost = 100;
  std::string quoted;
  AppendEscaped(&quoted, text, Escape::kQuoted, kMost);
  return "\"" + quoted + "\"";
}

// Looks at one field. A refusal ends the call.
GrpcRefusal TakeField(const HeaderField& field, GrpcRequest* request,
                      bool* grpc, bool* te) {
  const auto [name, value, indexed] = field;
  if (!IsMetadataValue(name, value)) {
    return GrpcRefusal::Status(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat("the value of ", Quoted(name), " is not ",
                     absl::EndsWith({name.data(), name.size()}, "-bin")
                         ? "base64"
                         : "printable ASCII"));
  }
  if (name == "content-type") {
    *grpc = IsGrpcContentType(value);
  } else if (name == "te") {
    *te = true;  // The session allows "trailers" alone.
  } else if (name == "grpc-timeout") {
    const std::optional<Duration> timeout = ParseGrpcTimeout(value);
    if (!timeout.has_value()) {
      return GrpcRefusal::Status(
          absl::StatusCode::kInvalidArgument,
          "grpc-timeout is not 1 to 8 digits and a unit: " + Quoted(value));
    }
    request->timeout = *timeout;
  } else if (name == "grpc-encoding") {
    const std::optional<GrpcEncoding> encoding = EncodingOf(value);
    if (!encoding.has_value()) {
      return GrpcRefusal::Status(
          absl::StatusCode::kUnimplemented,
          "grpc-encoding is not supported: " + Quoted(value));
    }
    request->encoding = *encoding;
  } else if (name == "grpc-accept-encoding") {
    request->accept_encoding = value;
  } else if (name == "traceparent") {
    // More than one is none: "-" is not valid.
    request->traceparent = request->traceparent.empty() ? value : "-";
  }
  return {};
}

}  // namespace

// Requests.

GrpcRefusal ParseGrpcRequest(const net::RequestHead& head,
                             GrpcRequest* request) {
  constexpr int kMethodNotAllowed = 405;
  constexpr int kUnsupportedMediaType = 415;
  *request = {};
  if (head.too_large) {
    return GrpcRefusal::Status(absl::StatusCode::kResourceExhausted,
                               "the request's metadata is over the limit");
  }
  if (head.method != "POST") return GrpcRefusal::Http(kMethodNotAllowed);
  bool grpc = false;
  bool te = false;
  GrpcRefusal refusal;
  for (const HeaderField& field : head.fields) {
    refusal = TakeField(field, request, &grpc, &te);
    if (refusal) break;
  }
  // Ahead of all others: a caller that does not speak gRPC reads no status.
  if (!grpc) {
    for (const HeaderField& field : head.fields) {
      if (field.name == "content-type") grpc = IsGrpcContentType(field.value);
    }
    if (!grpc) return GrpcRefusal::Http(kUnsupportedMediaType);
  }
  if (refusal) return refusal;
  if (!te) {
    return GrpcRefusal::Status(
        absl::StatusCode::kInternal,
        "no \"te: trailers\": a proxy on the way may not pass trailers on");
  }
  if (!SplitPath(head.path, request)) {
    return GrpcRefusal::Status(absl::StatusCode::kUnimplemented,
                               "no such method: " + Quoted(head.path));
  }
  return {};
}

std::optional<Duration> ParseGrpcTimeout(std::string_view text) {
  constexpr size_t kMostDigits = 8;
  if (text.size() < 2 || text.size() > kMostDigits + 1) return std::nullopt;
  int64_t amount = 0;
  for (char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    amount = amount * 10 + (c - '0');
  }
  // Only hours can be more than a Duration.
  constexpr int64_t kMostHours =
      std::chrono::duration_cast<std::chrono::hours>(Duration::max()).count();
  switch (text.back()) {
    case 'H':
      return amount > kMostHours ? Duration::max()
                                 : Duration(std::chrono::hours(amount));
    case 'M':
      return Duration(std::chrono::minutes(amount));
    case 'S':
      return Duration(std::chrono::seconds(amount));
    case 'm':
      return Duration(std::chrono::milliseconds(amount));
    case 'u':
      return Duration(std::chrono::microseconds(amount));
    case 'n':
      return Duration(amount);
    default:
      return std::nullopt;
  }
}

bool IsMetadataValue(std::string_view name, std::string_view value) {
  if (absl::EndsWith({name.data(), name.size()}, "-bin")) {
    do {
      if (!IsBase64(TakePiece(&value))) return false;
    } while (!value.empty());
    return true;
  }
  for (char c : value) {
    if (c < ' ' || c > '~') return false;
  }
  return true;
}

std::optional<std::string> DecodeBinary(std::string_view value) {
  std::string bytes;
  do {
    const std::string_view piece = TakePiece(&value);
    std::string decoded;
    if (!IsBase64(piece) ||
        !absl::Base64Unescape(absl::string_view(piece.data(), piece.size()),
                              &decoded)) {
      return std::nullopt;
    }
    bytes += decoded;
  } while (!value.empty());
  return bytes;
}

// Refusals.

GrpcRefusal GrpcRefusal::Http(int status) {
  GrpcRefusal refusal;
  refusal.http_status_ = status;
  refusal.http_text_ = absl::StrCat(status);
  return refusal;
}

GrpcRefusal GrpcRefusal::Status(absl::StatusCode code, std::string_view text) {
  constexpr int kOk = 200;
  GrpcRefusal refusal;
  refusal.http_status_ = kOk;
  refusal.code_ = code;
  refusal.text_ = std::string(text);
  refusal.encoded_ = PercentEncode(text);
  refusal.http_text_ = absl::StrCat(static_cast<int>(code));
  return refusal;
}

std::vector<HeaderField> GrpcRefusal::fields() const {
  if (code_ == absl::StatusCode::kOk) return {{":status", http_text_}};
  std::vector<HeaderField> fields(std::begin(kAnswerHead),
                                  std::end(kAnswerHead));
  fields.push_back({"grpc-status", http_text_});
  fields.push_back({"grpc-message", encoded_, /*indexed=*/false});
  return fields;
}

// Answers.

absl::Span<const HeaderField> AnswerHead() { return kAnswerHead; }

MessagePrefix MakeMessagePrefix(size_t message_bytes) {
  const auto byte = [message_bytes](int shift) {
    return static_cast<char>(message_bytes >> shift & 0xff);
  };
  return {0, byte(24), byte(16), byte(8), byte(0)};
}

GrpcTrailers::GrpcTrailers(absl::StatusCode code, std::string_view text,
                           std::string_view details) {
  const auto end =
      std::to_chars(code_, code_ + sizeof code_, static_cast<int>(code));
  fields_[count_++] = {"grpc-status",
                       {code_, static_cast<size_t>(end.ptr - code_)}};
  if (!text.empty()) {
    text_ = PercentEncode(CutUtf8(text, kMostTextBytes));
    fields_[count_++] = {"grpc-message", text_, /*indexed=*/false};
  }
  if (!details.empty() && details.size() <= kMostDetailBytes) {
    details_ = Base64(details);
    fields_[count_++] = {"grpc-status-details-bin", details_,
                         /*indexed=*/false};
  }
  constexpr size_t kBegin = 2;
  std::copy_n(kAnswerHead, kBegin, alone_.begin());
  std::copy_n(fields_.begin(), count_, alone_.begin() + kBegin);
}

std::string PercentEncode(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= ' ' && byte <= '~' && byte != '%') {
      encoded += c;
    } else {
      encoded += {'%', kDigits[byte >> 4], kDigits[byte & 0xf]};
    }
  }
  return encoded;
}

absl::StatusCode StatusOfReset(uint32_t http2_code) {
  constexpr uint32_t kStreamClosed = 5;
  constexpr uint32_t kRefusedStream = 7;
  constexpr uint32_t kCancel = 8;
  constexpr uint32_t kEnhanceYourCalm = 11;
  constexpr uint32_t kInadequateSecurity = 12;
  constexpr uint32_t kLast = 13;
  switch (http2_code) {
    case kRefusedStream:
      return absl::StatusCode::kUnavailable;
    case kCancel:
      return absl::StatusCode::kCancelled;
    case kEnhanceYourCalm:
      return absl::StatusCode::kResourceExhausted;
    case kInadequateSecurity:
      return absl::StatusCode::kPermissionDenied;
    case kStreamClosed:
    case kLast:
      return absl::StatusCode::kUnknown;
    default:
      return http2_code < kLast ? absl::StatusCode::kInternal
                                : absl::StatusCode::kUnknown;
  }
}

}  // namespace hotline::server
