// What ExecuteAnswer writes is what protobuf would write.
#include "server/broker/execute_answer.h"

#include <string>
#include <utility>
#include <vector>

#include "google/protobuf/arena.h"
#include "server/broker/session_messages.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using upstream::Header;
using upstream::Response;

// 1, 2 and 3 bytes of length, on both sides of each border.
const std::vector<size_t> kSizes = {0, 1, 127, 128, 16383, 16384, 1 << 20};

std::vector<Response> Responses() {
  std::vector<Response> all(1);
  all.push_back({.status = 200,
                 .headers = {{"server", "x"}, {"empty", ""}},
                 .body = "hello",
                 .trailers = {{"t", "1"}}});
  all.push_back({.status = 999,
                 .headers = {{"", "nameless"}, {"", ""}},
                 .body = "",
                 .trailers = {}});
  all.push_back({.status = 204,
                 .headers = {},
                 .body = std::string(3, '\0'),
                 .trailers = {}});
  all.back().truncated = true;
  for (const size_t size : kSizes) {
    all.push_back({.status = 200,
                   .headers = {{"long", std::string(size, '\xff')}},
                   .body = std::string(size, 'b'),
                   .trailers = {{std::string(size, 'n'), "v"}}});
  }
  return all;
}

void AddHeaders(const std::vector<Header>& from,
                google::protobuf::RepeatedPtrField<v1::Header>* to) {
  for (const Header& header : from) {
    v1::Header* const out = to->Add();
    out->set_name(header.name);
    out->set_value(header.value);
  }
}

v1::ExecuteResponse Message(const Response& response,
                            const v1::Receipt& receipt) {
  v1::ExecuteResponse message;
  message.set_status(response.status);
  AddHeaders(response.headers, message.mutable_headers());
  AddHeaders(response.trailers, message.mutable_trailers());
  message.set_body(response.body);
  message.set_truncated(response.truncated);
  *message.mutable_receipt() = receipt;
  return message;
}

void FillReceipt(int attempts, v1::Receipt* receipt) {
  receipt->set_attempts(attempts);
  if (attempts == 0) return;
  receipt->mutable_connection()->set_remote_address("127.0.0.1:443");
  receipt->mutable_timings()->mutable_total()->set_nanos(12345);
  for (int i = 1; i < attempts; ++i) receipt->add_failed_attempts("NOT_SENT");
}

TEST(ExecuteAnswerTest, EncodesAsProtobufDoes) {
  for (const int attempts : {0, 1, 3, 40}) {
    for (const Response& response : Responses()) {
      google::protobuf::Arena arena;
      ExecuteAnswer answer(&arena);
      answer.Take(response);
      FillReceipt(attempts, answer.receipt());
      EXPECT_TRUE(Message(response, *answer.receipt()).SerializeAsString() ==
                  Encoded(answer))
          << response.status << " " << response.body.size();
    }
  }
}

TEST(ExecuteAnswerTest, NamesAreMadeUtf8) {
  google::protobuf::Arena arena;
  ExecuteAnswer answer(&arena);
  answer.Take({.status = 200,
               .headers = {{"a\xff", "\xff"}},
               .body = "",
               .trailers = {{"\xc3\x28", "v"}}});
  const v1::ExecuteResponse read = Decoded(answer);
  EXPECT_EQ("a\uFFFD", read.headers(0).name());
  EXPECT_EQ("\xff", read.headers(0).value());
  EXPECT_EQ("\uFFFD(", read.trailers(0).name());
}

TEST(OutgoingTest, ResultsFollowEachOther) {
  google::protobuf::Arena arena;
  Outgoing out;
  v1::SessionResponse expected;
  for (const uint64_t id : {uint64_t{1}, uint64_t{300}, UINT64_MAX}) {
    for (const Response& response : Responses()) {
      ExecuteAnswer answer(&arena);
      answer.Take(response);
      FillReceipt(1, answer.receipt());
      out.Add(id, answer, answer.ByteSize(), nullptr);
      v1::SessionResult* const execute = expected.add_results();
      execute->set_id(id);
      *execute->mutable_execute() = Message(response, *answer.receipt());

      v1::SessionResult* const cancel = out.NewResult(id);
      cancel->mutable_cancel()->set_found(true);
      out.Add(*cancel);
      *expected.add_results() = *cancel;
    }
  }
  EXPECT_TRUE(expected.SerializeAsString() == out.message());
  out.Clear();
  EXPECT_TRUE(out.empty());
  EXPECT_EQ("", out.message());
}

}  // namespace
}  // namespace hotline::server
