#include "server/front/grpc_wire.h"

#include <malloc.h>
#include <zlib.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using net::HeaderField;
using net::RequestHead;
using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A request's head, with views of its fields.
class GrpcRequestTest : public ::testing::Test {
 protected:
  GrpcRefusal Parse(const std::vector<HeaderField>& more = {}) {
    fields_ = {{"content-type", "application/grpc"}, {"te", "trailers"}};
    fields_.insert(fields_.end(), more.begin(), more.end());
    return ParseThese(fields_);
  }
  GrpcRefusal ParseThese(std::vector<HeaderField> fields) {
    fields_ = std::move(fields);
    head_.fields = fields_;
    return ParseGrpcRequest(head_, &request_);
  }

  std::vector<HeaderField> fields_;
  RequestHead head_{.method = "POST",
                    .scheme = "http",
                    .authority = "h",
                    .path = "/hotline.v1.Broker/Execute",
                    .fields = {},
                    .content_length = -1,
                    .too_large = false};
  GrpcRequest request_;
};

TEST_F(GrpcRequestTest, APlainRequestIsAccepted) {
  EXPECT_FALSE(Parse());
  EXPECT_EQ(request_.service, "hotline.v1.Broker");
  EXPECT_EQ(request_.method, "Execute");
  EXPECT_EQ(request_.timeout, Duration::max());
  EXPECT_EQ(request_.encoding, GrpcEncoding::kIdentity);
}

TEST_F(GrpcRequestTest, KnownFieldsAreTaken) {
  EXPECT_FALSE(Parse({{"grpc-timeout", "100m"},
                      {"grpc-encoding", "gzip"},
                      {"grpc-accept-encoding", "identity, gzip"},
                      {"traceparent", "00-1-2-3"},
                      {"x-other", "ignored"}}));
  EXPECT_EQ(request_.timeout, milliseconds(100));
  EXPECT_EQ(request_.encoding, GrpcEncoding::kGzip);
  EXPECT_EQ(request_.accept_encoding, "identity, gzip");
  EXPECT_EQ(request_.traceparent, "00-1-2-3");
}

TEST_F(GrpcRequestTest, ContentTypesOfGrpcAreAccepted) {
  for (const char* type :
       {"application/grpc", "application/grpc+proto", "application/grpc+json",
        "application/grpc; charset=utf-8", "Application/gRPC"}) {
    EXPECT_FALSE(ParseThese({{"content-type", type}, {"te", "trailers"}}))
        << type;
  }
}

TEST_F(GrpcRequestTest, OtherContentTypesAreUnsupported) {
  for (const char* type : {"application/grpc-web", "application/json", "",
                           "application/grp", "text/application/grpc"}) {
    const GrpcRefusal refusal =
        ParseThese({{"content-type", type}, {"te", "trailers"}});
    EXPECT_EQ(refusal.http_status(), 415) << type;
    ASSERT_EQ(refusal.fields().size(), 1u);
    EXPECT_EQ(refusal.fields()[0].value, "415");
  }
  EXPECT_EQ(ParseThese({{"te", "trailers"}}).http_status(), 415);
  // This fault takes precedence over any other.
  EXPECT_EQ(ParseThese({{"grpc-timeout", "x"}, {"content-type", "text/plain"}})
                .http_status(),
            415);
  EXPECT_EQ(
      ParseThese({{"grpc-timeout", "x"}, {"content-type", "application/grpc"}})
          .code(),
      StatusCode::kInvalidArgument);
}

TEST_F(GrpcRequestTest, OnlyPostIsAllowed) {
  head_.method = "GET";
  EXPECT_EQ(Parse().http_status(), 405);
}

TEST_F(GrpcRequestTest, TeTrailersIsRequired) {
  const GrpcRefusal refusal =
      ParseThese({{"content-type", "application/grpc"}});
  EXPECT_EQ(refusal.code(), StatusCode::kInternal);
  EXPECT_THAT(refusal.text(), HasSubstr("te: trailers"));
}

TEST_F(GrpcRequestTest, MalformedPathsAreUnimplemented) {
  for (const char* path : {"/", "/a", "//b", "/a/", "", "a/b", "*"}) {
    head_.path = path;
    EXPECT_EQ(Parse().code(), StatusCode::kUnimplemented) << path;
  }
  head_.path = "/a/b/c";
  EXPECT_FALSE(Parse());
  EXPECT_EQ(request_.service, "a/b");
  EXPECT_EQ(request_.method, "c");
}

TEST_F(GrpcRequestTest, AnUnknownEncodingIsUnimplemented) {
  const GrpcRefusal refusal = Parse({{"grpc-encoding", "snappy"}});
  EXPECT_EQ(refusal.code(), StatusCode::kUnimplemented);
  bool told = false;
  for (const HeaderField& field : refusal.fields()) {
    told |= field.name == "grpc-accept-encoding" &&
            field.value == "identity,deflate,gzip";
  }
  EXPECT_TRUE(told);
}

TEST_F(GrpcRequestTest, TooMuchMetadataIsResourceExhausted) {
  head_.too_large = true;
  head_.method = {};
  EXPECT_EQ(Parse().code(), StatusCode::kResourceExhausted);
}

TEST_F(GrpcRequestTest, MetadataMustBeWhatItsNamePromises) {
  EXPECT_FALSE(Parse({{"x", "a ~"}, {"x-bin", "AQID"}, {"y-bin", ""}}));
  for (const HeaderField& field : std::vector<HeaderField>{{"x", "\xc3\xa9"},
                                                           {"x", "a\tb"},
                                                           {"x-bin", "A"},
                                                           {"x-bin", "A_=="}}) {
    const GrpcRefusal refusal = Parse({field});
    EXPECT_EQ(refusal.code(), StatusCode::kInvalidArgument) << field.value;
    EXPECT_THAT(refusal.text(), HasSubstr(std::string(field.name)));
  }
}

TEST_F(GrpcRequestTest, ARefusalIsHeadersAlone) {
  const GrpcRefusal refusal = Parse({{"grpc-timeout", "\"1%\""}});
  std::vector<std::string> fields;
  for (const HeaderField& field : refusal.fields()) {
    fields.push_back(std::string(field.name) + "=" + std::string(field.value));
  }
  ASSERT_EQ(fields.size(), 5u);
  EXPECT_EQ(fields[0], ":status=200");
  EXPECT_EQ(fields[1], "content-type=application/grpc");
  EXPECT_EQ(fields[3], "grpc-status=3");
  EXPECT_THAT(fields[4], HasSubstr("%25"));
}

TEST(GrpcTimeoutTest, EveryUnitIsRead) {
  EXPECT_EQ(ParseGrpcTimeout("1H"), hours(1));
  EXPECT_EQ(ParseGrpcTimeout("2M"), minutes(2));
  EXPECT_EQ(ParseGrpcTimeout("3S"), seconds(3));
  EXPECT_EQ(ParseGrpcTimeout("4m"), milliseconds(4));
  EXPECT_EQ(ParseGrpcTimeout("5u"), microseconds(5));
  EXPECT_EQ(ParseGrpcTimeout("6n"), nanoseconds(6));
  EXPECT_EQ(ParseGrpcTimeout("0n"), nanoseconds(0));
  EXPECT_EQ(ParseGrpcTimeout("00000001S"), seconds(1));
}

TEST(GrpcTimeoutTest, TheLargestValueOfEveryUnitIsAccepted) {
  EXPECT_EQ(ParseGrpcTimeout("99999999H"), Duration::max());
  EXPECT_EQ(ParseGrpcTimeout("99999999M"), minutes(99'999'999));
  EXPECT_EQ(ParseGrpcTimeout("99999999S"), seconds(99'999'999));
  EXPECT_EQ(ParseGrpcTimeout("99999999n"), nanoseconds(99'999'999));
  // The largest value that fits a Duration, and the first that does not.
  EXPECT_EQ(ParseGrpcTimeout("2562047H"), hours(2'562'047));
  EXPECT_EQ(ParseGrpcTimeout("2562048H"), Duration::max());
  const Instant now = Instant{} + hours(1000);
  EXPECT_EQ(SaturatingAdd(now, *ParseGrpcTimeout("99999999H")), kNever);
}

TEST(GrpcTimeoutTest, AnythingElseIsRefused) {
  for (const char* text : {"", "1", "H", "S1", "1s", "1h", "-1S", "+1S", "1.5S",
                           " 1S", "1S ", "123456789S", "1SS", "0x1S", "1\0S"}) {
    EXPECT_EQ(ParseGrpcTimeout(text), std::nullopt) << text;
  }
}

TEST(MetadataTest, BinaryValuesAreDecoded) {
  EXPECT_EQ(DecodeBinary("AQID"), "\x01\x02\x03");
  EXPECT_EQ(DecodeBinary("YQ=="), "a");
  EXPECT_EQ(DecodeBinary("YQ"), "a");
  EXPECT_EQ(DecodeBinary("YWI"), "ab");
  EXPECT_EQ(DecodeBinary(""), "");
  EXPECT_EQ(DecodeBinary("YQ,Yg==, Yw"), "abc");
}

TEST(MetadataTest, InvalidBase64IsNotDecoded) {
  for (const char* text : {"A", "YQ=", "YQ===", "=", "Y Q", "YQ==YQ==", "a_-b",
                           "YQ==a", "\n", "YWJj=", "!", "YWJjZ"}) {
    EXPECT_EQ(DecodeBinary(text), std::nullopt) << text;
    EXPECT_FALSE(IsMetadataValue("x-bin", text)) << text;
  }
}

// Messages.

std::string Prefixed(std::string_view payload, char flag = 0) {
  const MessagePrefix prefix = MakeMessagePrefix(payload.size());
  std::string message(prefix.data(), prefix.size());
  message[0] = flag;
  return message.append(payload);
}

std::string Compress(std::string_view bytes, bool gzip) {
  z_stream stream = {};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, gzip ? 15 + 16 : 15, 9,
               Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()) + 100, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = bytes.size();
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

constexpr size_t kMost = 1000;

struct Outcome {
  std::vector<std::string> messages;
  absl::Status status;
};

// Feeds `body` in pieces of `piece` bytes.
Outcome ReadAll(std::string_view body, size_t piece = SIZE_MAX,
                GrpcEncoding encoding = GrpcEncoding::kIdentity,
                size_t most = kMost) {
  MessageReader reader(encoding, most);
  Outcome outcome;
  while (!body.empty()) {
    const std::string part(body.substr(0, piece));
    body.remove_prefix(part.size());
    reader.Add(part);
    std::string_view message;
    MessageReader::Result result;
    while ((result = reader.Next(&message)) ==
           MessageReader::Result::kMessage) {
      outcome.messages.emplace_back(message);
    }
    if (result == MessageReader::Result::kFailed) break;
  }
  outcome.status = reader.Finish();
  return outcome;
}

TEST(MessageReaderTest, MessagesAreCutOutOfPiecesOfAnySize) {
  const std::vector<std::string> messages = {"", "a", std::string(1000, 'b'),
                                             "", "cd"};
  std::string body;
  for (const std::string& message : messages) body += Prefixed(message);
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{4}, size_t{5},
                             size_t{6}, size_t{7}, size_t{999}, SIZE_MAX}) {
    const Outcome outcome = ReadAll(body, piece);
    EXPECT_EQ(outcome.messages, messages) << piece;
    EXPECT_TRUE(outcome.status.ok());
  }
}

TEST(MessageReaderTest, AMessageInOnePieceIsNotCopied) {
  const std::string body = Prefixed("hello");
  MessageReader reader(GrpcEncoding::kIdentity, kMost);
  reader.Add(body);
  std::string_view message;
  ASSERT_EQ(reader.Next(&message), MessageReader::Result::kMessage);
  EXPECT_EQ(message.data(), body.data() + 5);
  EXPECT_EQ(reader.buffered_bytes(), 0u);
}

TEST(MessageReaderTest, TheLimitHoldsForTheAnnouncedLength) {
  EXPECT_TRUE(ReadAll(Prefixed(std::string(kMost, 'x'))).status.ok());
  for (const std::string& prefix :
       {Prefixed(std::string(kMost + 1, 'x')).substr(0, 5),
        std::string("\0\xff\xff\xff\xff", 5)}) {
    const Outcome outcome = ReadAll(prefix, 1);
    EXPECT_EQ(outcome.status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("1000"));
  }
}

TEST(MessageReaderTest, UnreadBytesAreKept) {
  MessageReader reader(GrpcEncoding::kIdentity, kMost);
  std::string body = Prefixed("a") + Prefixed("bb") + Prefixed("ccc");
  const std::string first = body.substr(0, body.size() - 2);
  std::string_view message;
  {
    const std::string gone = first;
    reader.Add(gone);
    ASSERT_EQ(reader.Next(&message), MessageReader::Result::kMessage);
    EXPECT_EQ(message, "a");
    reader.Keep();
    reader.Keep();
  }
  EXPECT_EQ(reader.unread_bytes(), first.size() - Prefixed("a").size());
  for (int i = 0; i < 100; ++i) {
    const std::string more = i == 0 ? body.substr(first.size()) : body;
    reader.Add(more);
    reader.Keep();
  }
  std::string all;
  while (reader.Next(&message) == MessageReader::Result::kMessage) {
    all += message;
  }
  std::string expected = "bbccc";
  for (int i = 1; i < 100; ++i) expected += "abbccc";
  EXPECT_EQ(all, expected);
  EXPECT_EQ(reader.unread_bytes(), 0u);
  EXPECT_TRUE(reader.Finish().ok());
}

TEST(MessageReaderTest, AnAnnouncedLengthAllocatesNoMemory) {
  MessageReader reader(GrpcEncoding::kIdentity, 100 << 20);
  const size_t before = mallinfo2().uordblks;
  const std::string begin("\0\x05\0\0\0xyz", 8);
  reader.Add(begin);
  std::string_view message;
  EXPECT_EQ(reader.Next(&message), MessageReader::Result::kNeedMore);
  EXPECT_LT(mallinfo2().uordblks - before, 100u << 10);
}

TEST(MessageReaderTest, ATruncatedBodyIsAnError) {
  const std::string body = Prefixed("hello");
  for (size_t size = 1; size < body.size(); ++size) {
    EXPECT_EQ(ReadAll(body.substr(0, size)).status.code(),
              StatusCode::kInternal);
  }
}

TEST(MessageReaderTest, UnknownFlagsAreRefused) {
  for (const char flag : {2, 3, 127, -1}) {
    EXPECT_EQ(ReadAll(Prefixed("x", flag)).status.code(),
              StatusCode::kInternal);
  }
}

TEST(MessageReaderTest, CompressionNeedsAnEncoding) {
  EXPECT_EQ(ReadAll(Prefixed(Compress("x", true), 1)).status.code(),
            StatusCode::kInternal);
}

TEST(MessageReaderTest, NothingIsReadAfterAnError) {
  MessageReader reader(GrpcEncoding::kIdentity, kMost);
  const std::string bad = Prefixed("x", 2);
  const std::string good = Prefixed("y");
  std::string_view message;
  reader.Add(bad);
  EXPECT_EQ(reader.Next(&message), MessageReader::Result::kFailed);
  reader.Add(good);
  EXPECT_EQ(reader.Next(&message), MessageReader::Result::kFailed);
  EXPECT_EQ(reader.Finish().code(), StatusCode::kInternal);
}

class CompressedTest : public ::testing::TestWithParam<GrpcEncoding> {
 protected:
  std::string Message(std::string_view bytes) {
    return Prefixed(Packed(bytes), 1);
  }
  std::string Packed(std::string_view bytes) {
    return Compress(bytes, GetParam() == GrpcEncoding::kGzip);
  }
};

TEST_P(CompressedTest, MessagesOfAnySizeAreInflated) {
  for (const size_t size : {0, 1, 1000, 32767, 32768, 32769, 65536, 100'000}) {
    std::string text;
    for (size_t i = 0; i < size; ++i) text += static_cast<char>(i * i >> 7);
    const std::string body =
        Message(text) + Prefixed("plain") + Message("after");
    const Outcome outcome = ReadAll(body, SIZE_MAX, GetParam(), 2 << 20);
    ASSERT_EQ(outcome.messages.size(), 3u) << outcome.status;
    EXPECT_TRUE(outcome.messages[0] == text) << size;
    EXPECT_EQ(outcome.messages[1], "plain");
    EXPECT_EQ(outcome.messages[2], "after");
  }
}

TEST_P(CompressedTest, TheLimitHoldsForWhatIsInflated) {
  for (const size_t most : {size_t{1}, size_t{1000}, size_t{32768},
                            size_t{65536}, size_t{100'000}}) {
    EXPECT_TRUE(ReadAll(Message(std::string(most, 'x')), SIZE_MAX, GetParam(),
                        std::max<size_t>(most, 300))
                    .status.ok())
        << most;
    const Outcome outcome =
        ReadAll(Message(std::string(std::max<size_t>(most, 300) + 1, 'x')),
                SIZE_MAX, GetParam(), std::max<size_t>(most, 300));
    EXPECT_EQ(outcome.status.code(), StatusCode::kResourceExhausted) << most;
  }
}

// The first bytes of 200 MiB of zeros, compressed.
std::string Bomb(bool gzip) {
  z_stream stream = {};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, gzip ? 15 + 16 : 15, 9,
               Z_DEFAULT_STRATEGY);
  std::string block(1 << 20, '\0');
  const auto compress = [&] {
    std::string out(100'000, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(block.data());
    stream.avail_in = block.size();
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = out.size();
    deflate(&stream, Z_FULL_FLUSH);
    out.resize(out.size() - stream.avail_out);
    return out;
  };
  std::string bomb = compress();
  // After a full flush the output repeats.
  const std::string repeated = compress();
  for (int i = 1; i < 200; ++i) bomb += repeated;
  deflateEnd(&stream);
  return bomb;
}

TEST_P(CompressedTest, ABombCostsOnlyAWindowOfMemory) {
  const std::string bomb = Prefixed(Bomb(GetParam() == GrpcEncoding::kGzip), 1);
  ASSERT_LT(bomb.size(), 300u << 10);
  MessageReader reader(GetParam(), 4 << 20);
  const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
  reader.Add(bomb);
  std::string_view message;
  EXPECT_EQ(reader.Next(&message), MessageReader::Result::kFailed);
  EXPECT_EQ(reader.status().code(), StatusCode::kResourceExhausted);
  const size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
  EXPECT_LT(after - std::min(before, after), 200u << 10);
}

TEST_P(CompressedTest, BrokenMessagesAreErrors) {
  const std::string packed = Packed(std::string(100'000, 'x') + "end");
  std::vector<std::string> broken = {"",
                                     "x",
                                     packed + "x",
                                     packed + packed,
                                     packed.substr(0, packed.size() - 1),
                                     packed.substr(1)};
  std::string flipped = packed;
  flipped[flipped.size() / 2] ^= 0x10;
  broken.push_back(flipped);
  std::string checksum = packed;
  checksum[checksum.size() - 5] ^= 1;
  broken.push_back(checksum);
  for (const std::string& payload : broken) {
    const Outcome outcome =
        ReadAll(Prefixed(payload, 1), SIZE_MAX, GetParam(), 1 << 20);
    EXPECT_NE(outcome.status.code(), StatusCode::kOk) << payload.size();
    EXPECT_TRUE(outcome.messages.empty());
  }
}

TEST_P(CompressedTest, PiecesAreTheSameAsTheWhole) {
  const std::string text(5000, 'q');
  const std::string body = Message(text) + Message("b");
  const Outcome outcome = ReadAll(body, 1, GetParam(), 5000);
  ASSERT_EQ(outcome.messages.size(), 2u) << outcome.status;
  EXPECT_EQ(outcome.messages[0], text);
}

INSTANTIATE_TEST_SUITE_P(Encodings, CompressedTest,
                         ::testing::Values(GrpcEncoding::kGzip,
                                           GrpcEncoding::kDeflate),
                         [](const auto& info) {
                           return std::string(info.param == GrpcEncoding::kGzip
                                                  ? "Gzip"
                                                  : "Deflate");
                         });

// Answers.

TEST(GrpcTrailersTest, SuccessIsOneField) {
  const GrpcTrailers trailers(StatusCode::kOk, "");
  ASSERT_EQ(trailers.fields().size(), 1u);
  EXPECT_EQ(trailers.fields()[0].name, "grpc-status");
  EXPECT_EQ(trailers.fields()[0].value, "0");
}

TEST(GrpcTrailersTest, AnErrorHasTextAndDetails) {
  const GrpcTrailers trailers(StatusCode::kUnauthenticated, "a \t\xc3\xa9%",
                              "\x01\x02\x03\x04");
  ASSERT_EQ(trailers.fields().size(), 3u);
  EXPECT_EQ(trailers.fields()[0].value, "16");
  EXPECT_EQ(trailers.fields()[1].value, "a %09%C3%A9%25");
  EXPECT_EQ(trailers.fields()[2].name, "grpc-status-details-bin");
  EXPECT_EQ(trailers.fields()[2].value, "AQIDBA");
  EXPECT_FALSE(trailers.fields()[1].indexed);
}

TEST(GrpcTrailersTest, TrailersOnlyBeginWithTheHttpStatus) {
  const GrpcTrailers trailers(StatusCode::kNotFound, "no");
  ASSERT_EQ(trailers.fields_alone().size(), 4u);
  EXPECT_EQ(trailers.fields_alone()[0].value, "200");
  EXPECT_EQ(trailers.fields_alone()[1].value, "application/grpc");
  EXPECT_EQ(trailers.fields_alone()[2].value, "5");
  EXPECT_EQ(trailers.fields_alone()[3].value, "no");
}

TEST(GrpcTrailersTest, TheyStayWithinThePeersLimit) {
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "\xc3\xa9";
  const GrpcTrailers trailers(StatusCode::kInternal, text,
                              std::string(100'000, 'x'));
  size_t size = 0;
  for (const HeaderField& field : trailers.fields()) {
    size += field.name.size() + field.value.size();
  }
  EXPECT_LT(size, 8u << 10);
  // No UTF-8 character is split.
  EXPECT_EQ(trailers.fields()[1].value.size() % 6, 0u);
}

TEST(GrpcTrailersTest, ThePrefixCountsBytes) {
  const MessagePrefix prefix = MakeMessagePrefix(0x01020304);
  EXPECT_EQ(std::string(prefix.data(), prefix.size()),
            std::string("\0\x01\x02\x03\x04", 5));
}

TEST(GrpcTrailersTest, TheHeadOfAnAnswerNamesTheEncodings) {
  ASSERT_EQ(AnswerHead().size(), 3u);
  EXPECT_EQ(AnswerHead()[2].name, "grpc-accept-encoding");
}

TEST(StatusOfResetTest, CodesAreThoseOfTheSpecification) {
  const std::pair<uint32_t, StatusCode> expected[] = {
      {0, StatusCode::kInternal},          {1, StatusCode::kInternal},
      {2, StatusCode::kInternal},          {3, StatusCode::kInternal},
      {4, StatusCode::kInternal},          {5, StatusCode::kUnknown},
      {6, StatusCode::kInternal},          {7, StatusCode::kUnavailable},
      {8, StatusCode::kCancelled},         {9, StatusCode::kInternal},
      {10, StatusCode::kInternal},         {11, StatusCode::kResourceExhausted},
      {12, StatusCode::kPermissionDenied}, {13, StatusCode::kUnknown},
      {99, StatusCode::kUnknown},
  };
  for (const auto& [code, status] : expected) {
    EXPECT_EQ(StatusOfReset(code), status) << code;
  }
}

}  // namespace
}  // namespace hotline::server
