// RFC 9113 for the server's role, by raw frames: what each breach costs the
// peer, and that what is allowed costs nothing.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "net/http2/server_session.h"
#include "tests/fakes/rows.h"
#include "tests/net/http2/frame_text.h"
#include "tests/net/http2/raw_frames.h"

namespace hotline::net {
namespace {

enum class Outcome {
  kFine,    // Nothing happens, and a PING is answered.
  kStream,  // RST_STREAM with the code for the stream; the same otherwise.
  kGoAway,  // GOAWAY with the code, and the session has ended.
  kClosed,  // The session has ended; it never was HTTP/2.
};

struct Case {
  std::string name;
  std::string bytes;
  Outcome outcome = Outcome::kFine;
  uint32_t code = 0;   // Of RST_STREAM or GOAWAY.
  bool whole = false;  // `bytes` are all that is sent: no handshake before.
};

// "fine", "closed", "GOAWAY PROTOCOL_ERROR", "RST_STREAM CANCEL".
void SetOutcome(const std::string& text, Case* test) {
  const std::map<std::string, Outcome> outcomes = {
      {"fine", Outcome::kFine},
      {"RST_STREAM", Outcome::kStream},
      {"GOAWAY", Outcome::kGoAway},
      {"closed", Outcome::kClosed},
  };
  const size_t blank = text.find(' ');
  const auto found = outcomes.find(text.substr(0, blank));
  ASSERT_NE(found, outcomes.end()) << text;
  test->outcome = found->second;
  const bool has_code =
      test->outcome == Outcome::kStream || test->outcome == Outcome::kGoAway;
  ASSERT_EQ(blank != text.npos, has_code) << text;
  if (!has_code) return;
  const auto code = ErrorCode(text.substr(blank + 1));
  ASSERT_TRUE(code) << text;
  test->code = *code;
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const auto& row :
       testing::ReadRows("tests/net/http2/request_frames.tsv", 4, 114)) {
    Case test{.name = row[0] + ": " + row[1], .bytes = ParseFrames(row[3])};
    SetOutcome(row[2], &test);
    test.whole = row[0] == "3.4";
    cases.push_back(std::move(test));
  }
  for (const auto& row :
       testing::ReadRows("tests/net/http2/request_heads.tsv", 4, 44)) {
    Case test{.name = row[0] + ": " + row[1],
              .bytes = Headers(1, ParseFields(row[2]), kEndStream)};
    SetOutcome(row[3] == "refused" ? "RST_STREAM PROTOCOL_ERROR" : row[3],
               &test);
    cases.push_back(std::move(test));
  }
  return cases;
}

ServerOptions SmallOptions() {
  ServerOptions options;
  options.max_concurrent_streams = 4;
  options.stream_window_bytes = 65535;
  options.connection_window_bytes = 131071;
  options.max_unconsumed_bytes = 0;
  return options;
}

void CheckCase(const Case& test, RawClient* client) {
  switch (test.outcome) {
    case Outcome::kFine:
      EXPECT_EQ(client->Count(NGHTTP2_GOAWAY), 0u)
          << client->session().end_text();
      EXPECT_EQ(client->Count(NGHTTP2_RST_STREAM), 0u);
      break;
    case Outcome::kStream: {
      const OutFrame reset = client->First(NGHTTP2_RST_STREAM);
      EXPECT_EQ(reset.type, NGHTTP2_RST_STREAM);
      EXPECT_EQ(reset.stream, 1u);
      EXPECT_EQ(reset.Number(), test.code);
      break;
    }
    case Outcome::kGoAway: {
      const OutFrame goaway = client->First(NGHTTP2_GOAWAY);
      EXPECT_EQ(goaway.type, NGHTTP2_GOAWAY);
      EXPECT_EQ(goaway.Number(4), test.code) << client->session().end_text();
      break;
    }
    case Outcome::kClosed:
      break;
  }
  const bool open =
      test.outcome == Outcome::kFine || test.outcome == Outcome::kStream;
  EXPECT_EQ(client->Send(Ping("areyouok")), open);
  client->Read();
  if (open) {
    EXPECT_EQ(client->seen.back().type, NGHTTP2_PING);
    EXPECT_EQ(client->seen.back().payload, "areyouok");
  } else {
    EXPECT_TRUE(client->session().finished());
    EXPECT_EQ(client->session().open_streams(), 0u);
  }
  EXPECT_EQ(client->events.disorders, 0);
}

void RunCase(const Case& test, bool byte_by_byte) {
  RawClient client(SmallOptions());
  client.events.on_end = [&](ServerStream* stream) {
    if (client.events.calls[stream->id()].path == "/now") {
      client.session().SubmitHeaders(stream, {{":status", "200"}}, true);
      client.session().Output();
    }
  };
  if (!test.whole) client.Connect();
  if (byte_by_byte) {
    for (char byte : test.bytes) {
      if (!client.Send({&byte, 1})) break;
    }
  } else {
    client.Send(test.bytes);
  }
  client.Read();
  CheckCase(test, &client);
  client.Destroy();
  for (const auto& [id, call] : client.events.calls) {
    EXPECT_EQ(call.closed, 1) << id;
  }
}

TEST(ServerRulesTest, EveryBreachHasItsError) {
  for (const Case& test : AllCases()) {
    SCOPED_TRACE(test.name);
    RunCase(test, /*byte_by_byte=*/false);
  }
}

TEST(ServerRulesTest, TheSameHoldsForFramesInPieces) {
  for (const Case& test : AllCases()) {
    SCOPED_TRACE(test.name);
    RunCase(test, /*byte_by_byte=*/true);
  }
}

}  // namespace
}  // namespace hotline::net
