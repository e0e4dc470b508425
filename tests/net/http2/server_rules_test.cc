// RFC 9113 for the server's role, by raw frames: what each breach costs the
// peer, and that what is allowed costs nothing.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "net/http2/server_session.h"
#include "tests/fakes/rows.h"
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
  std::string section;
  std::string name;
  std::string frames;  // After the handshake, unless `raw`.
  Outcome outcome;
  uint32_t code = 0;
  uint32_t stream = 1;
  bool raw = false;  // `frames` are all that is sent.
};

std::string Continuation(uint32_t stream, std::string_view payload,
                         uint8_t flags = kNoFlag) {
  return Frame(NGHTTP2_CONTINUATION, flags, stream, payload);
}
std::string Priority(uint32_t stream, uint32_t on) {
  return Frame(NGHTTP2_PRIORITY, kNoFlag, stream, Bytes(on, 4) + '\x10');
}
// The first of a head's frames; CONTINUATION follows.
std::string OpenHead(uint32_t stream, uint8_t flags = kNoFlag) {
  return Frame(NGHTTP2_HEADERS, flags, stream, Block(PostFields()));
}
// It is answered at once, and over.
std::string Finished(uint32_t stream) {
  return Headers(stream,
                 {{":method", "POST"}, {":scheme", "http"}, {":path", "/now"}},
                 kEndStream);
}
// A head with `more` fields; the body follows.
std::string With(const FieldList& more) { return Post(1, kNoFlag, more); }
// A head that ends its stream.
std::string Only(const FieldList& fields) {
  return Headers(1, fields, kEndStream);
}

std::vector<Case> FramingCases() {
  const std::string shake = Preface() + Settings();
  constexpr auto kFine = Outcome::kFine;
  constexpr auto kGoAway = Outcome::kGoAway;
  return {
      {"3.4", "a preface that is none", "INVALID", Outcome::kClosed, 0, 1,
       true},
      {"3.4", "a preface that breaks off", "PRI * HTTP/2.0\r\n\r\nXX",
       Outcome::kClosed, 0, 1, true},
      {"3.4", "a first frame that is not SETTINGS", Preface() + Ping(), kGoAway,
       NGHTTP2_PROTOCOL_ERROR, 1, true},
      {"3.4", "a first frame that acknowledges", Preface() + SettingsAck(),
       kGoAway, NGHTTP2_PROTOCOL_ERROR, 1, true},
      {"3.4", "the preface and empty SETTINGS", shake, kFine, 0, 1, true},
      {"4.1", "a frame of unknown type", Frame(0xfe, 0xff, 0, "x"), kFine},
      {"4.1", "flags that are not defined", Ping("12345678", 0xfe), kFine},
      {"4.1", "the reserved bit", Frame(NGHTTP2_PING, 0, 1u << 31, "12345678"),
       kFine},
      {"4.2", "DATA of 16 384 bytes",
       Post(1) + Data(1, std::string(16384, 'x')), kFine},
      {"4.2", "DATA of 16 385 bytes",
       Post(1) + Data(1, std::string(16385, 'x')), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"4.2", "HEADERS of 16 385 bytes",
       Frame(NGHTTP2_HEADERS, kEndHeaders, 1, std::string(16385, '\x82')),
       kGoAway, NGHTTP2_FRAME_SIZE_ERROR},
      {"4.2", "an unknown frame of 16 385 bytes",
       Frame(0xfe, 0, 0, std::string(16385, 'x')), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"4.3", "an index without an entry",
       Frame(NGHTTP2_HEADERS, kEndHeaders, 1, "\x82\xff\x7f"), kGoAway,
       NGHTTP2_COMPRESSION_ERROR},
      {"4.3", "a field that breaks off",
       Frame(NGHTTP2_HEADERS, kEndHeaders, 1,
             std::string("\x82\x00\x05"
                         "ab",
                         5)),
       kGoAway, NGHTTP2_COMPRESSION_ERROR},
      {"4.3", "a table larger than SETTINGS allow",
       Frame(NGHTTP2_HEADERS, kEndHeaders, 1, "\x3f\xff\xff\x7f\x82"), kGoAway,
       NGHTTP2_COMPRESSION_ERROR},
      {"4.3", "a table size after the first field",
       Frame(NGHTTP2_HEADERS, kEndHeaders, 1, "\x82\x20"), kGoAway,
       NGHTTP2_COMPRESSION_ERROR},
      {"4.3", "index 0", Frame(NGHTTP2_HEADERS, kEndHeaders, 1, "\x80"),
       kGoAway, NGHTTP2_COMPRESSION_ERROR},
      {"4.3", "bad Huffman padding",
       Frame(NGHTTP2_HEADERS, kEndHeaders, 1,
             std::string("\x82\x86\x84\x00\x01x\x82\x00\x00", 9)),
       kGoAway, NGHTTP2_COMPRESSION_ERROR},
      {"4.3", "PRIORITY inside a head", OpenHead(1) + Priority(1, 0), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"4.3", "another stream's HEADERS inside a head", OpenHead(1) + Post(3),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"4.3", "DATA inside a head", OpenHead(1) + Data(1, "x"), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"5.5", "an unknown frame inside a head",
       OpenHead(1) + Frame(0xfe, 0, 1, "x"), kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.2", "padding as long as the payload",
       Frame(NGHTTP2_HEADERS, kEndHeaders | kPadded, 1, "\x09\x82\x86\x84"),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.2", "HEADERS with padding",
       Frame(NGHTTP2_HEADERS, kEndHeaders | kPadded | kEndStream, 1,
             std::string("\x03") + Block(PostFields()) + std::string(3, '\0')),
       kFine},
      {"6.2", "a padded frame without a payload",
       Frame(NGHTTP2_HEADERS, kEndHeaders | kPadded, 1), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.2", "a priority that is too short",
       Frame(NGHTTP2_HEADERS, kEndHeaders | kPriority, 1, "abcd"), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"6.2", "a priority",
       Frame(NGHTTP2_HEADERS, kEndHeaders | kPriority | kEndStream, 1,
             Bytes(0, 5) + Block(PostFields())),
       kFine},
      {"6.10", "a head in three frames",
       OpenHead(1, kEndStream) + Continuation(1, Block({{"a", "b"}})) +
           Continuation(1, Block({{"c", "d"}}), kEndHeaders),
       kFine},
      {"6.10", "CONTINUATION after END_HEADERS",
       Post(1) + Continuation(1, "", kEndHeaders), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.10", "CONTINUATION of another stream",
       OpenHead(1) + Continuation(3, "", kEndHeaders), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.10", "CONTINUATION of stream 0",
       OpenHead(1) + Continuation(0, "", kEndHeaders), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.10", "CONTINUATION after DATA",
       Post(1) + Data(1, "x") + Continuation(1, "", kEndHeaders), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.10", "CONTINUATION out of nowhere", Continuation(1, "", kEndHeaders),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
  };
}

std::vector<Case> StateCases() {
  constexpr auto kFine = Outcome::kFine;
  constexpr auto kGoAway = Outcome::kGoAway;
  const std::string ended = Post(1, kEndStream);
  const std::string reset = Post(1) + Rst(1);
  return {
      {"5.1", "DATA for an idle stream", Data(1, "x"), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      // Not the RFC's connection error: gRPC's C core sends it.
      {"5.1", "RST_STREAM for an idle stream", Rst(1), kFine},
      {"5.1", "a stream after RST_STREAM for an idle one", Rst(1) + Post(3),
       kFine},
      {"5.1", "RST_STREAM for an idle stream of ours", Rst(2), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"5.1", "RST_STREAM for an idle stream within a head",
       OpenHead(1) + Rst(3), kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.4", "RST_STREAM of the wrong size for an idle stream",
       Frame(NGHTTP2_RST_STREAM, 0, 1, "abc"), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"5.1", "WINDOW_UPDATE for an idle stream", Window(1, 1), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"5.1", "PRIORITY for an idle stream", Priority(7, 0), kFine},
      {"5.1", "DATA after END_STREAM", ended + Data(1, "x"), kGoAway,
       NGHTTP2_STREAM_CLOSED},
      {"5.1", "HEADERS after END_STREAM", ended + Post(1), kGoAway,
       NGHTTP2_STREAM_CLOSED},
      {"5.1", "CONTINUATION after END_STREAM",
       ended + Continuation(1, "", kEndHeaders), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"5.1", "WINDOW_UPDATE after END_STREAM", ended + Window(1, 1), kFine},
      {"5.1", "RST_STREAM after END_STREAM", ended + Rst(1), kFine},
      {"5.1", "DATA after RST_STREAM", reset + Data(1, "x"), kGoAway,
       NGHTTP2_STREAM_CLOSED},
      {"5.1", "HEADERS after RST_STREAM", reset + Post(1), kGoAway,
       NGHTTP2_STREAM_CLOSED},
      {"5.1", "CONTINUATION after RST_STREAM",
       reset + Continuation(1, "", kEndHeaders), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"5.1", "WINDOW_UPDATE after RST_STREAM", reset + Window(1, 1), kFine},
      {"5.1", "DATA for a finished stream", Finished(1) + Data(1, "x"), kGoAway,
       NGHTTP2_STREAM_CLOSED},
      {"5.1", "HEADERS for a finished stream", Finished(1) + Post(1), kGoAway,
       NGHTTP2_STREAM_CLOSED},
      {"5.1", "WINDOW_UPDATE for a finished stream", Finished(1) + Window(1, 1),
       kFine},
      {"5.1", "RST_STREAM for a finished stream", Finished(1) + Rst(1), kFine},
      {"5.1", "PRIORITY for a finished stream", Finished(1) + Priority(1, 0),
       kFine},
      {"5.1.1", "an even stream", Post(2), kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"5.1.1", "a stream lower than the last", Post(5) + Post(3), kGoAway,
       NGHTTP2_STREAM_CLOSED},
      {"5.1.1", "HEADERS for stream 0", Post(0), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"5.1.1", "streams that are skipped", Post(1, kEndStream) + Post(99),
       kFine},
      {"5.1.2", "more streams than allowed",
       Post(1) + Post(3) + Post(5) + Post(7) + Post(9), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"5.3", "HEADERS that depend on themselves",
       Frame(NGHTTP2_HEADERS, kEndHeaders | kPriority, 1,
             Bytes(1, 4) + '\x10' + Block(PostFields())),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"5.3", "PRIORITY that depends on itself", Post(1) + Priority(1, 1),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
  };
}

std::vector<Case> FrameCases() {
  constexpr auto kFine = Outcome::kFine;
  constexpr auto kGoAway = Outcome::kGoAway;
  constexpr auto kStream = Outcome::kStream;
  constexpr uint32_t kMostWindow = 0x7fffffff;
  const std::string full(16384, 'x');
  std::string stream_window, connection_window;
  for (int i = 0; i < 5; ++i) stream_window += Data(1, full);
  for (int i = 0; i < 3; ++i) {
    connection_window += Data(1, full) + Data(3, full) + Data(5, full);
  }
  std::vector<std::pair<uint16_t, uint32_t>> many;
  for (uint16_t i = 0; i < 33; ++i) many.push_back({uint16_t(i + 100), 1});
  return {
      {"6.1", "DATA for stream 0", Data(0, "x"), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.1", "DATA with padding",
       Post(1) + Data(1,
                      std::string("\x02"
                                  "x\0\0",
                                  4),
                      kPadded | kEndStream),
       kFine},
      {"6.1", "DATA that is all padding",
       Post(1) + Data(1, std::string("\x02\0\0", 3), kPadded | kEndStream),
       kFine},
      {"6.1", "padding as long as the payload",
       Post(1) + Data(1,
                      "\x04"
                      "xxx",
                      kPadded),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.1", "a padded frame without a payload",
       Post(1) + Data(1, "", kPadded), kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.3", "PRIORITY for stream 0", Priority(0, 1), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.3", "PRIORITY of 4 bytes", Frame(NGHTTP2_PRIORITY, 0, 1, "abcd"),
       kGoAway, NGHTTP2_FRAME_SIZE_ERROR},
      {"6.3", "PRIORITY", Post(1) + Priority(1, 0), kFine},
      {"6.4", "RST_STREAM for stream 0", Rst(0), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.4", "RST_STREAM of 3 bytes",
       Post(1) + Frame(NGHTTP2_RST_STREAM, 0, 1, "abc"), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"6.4", "RST_STREAM with an unknown code", Post(1) + Rst(1, 0xff), kFine},
      {"6.5", "an acknowledgement with a payload",
       Frame(NGHTTP2_SETTINGS, kAck, 0, std::string(6, '\0')), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"6.5", "an acknowledgement of nothing", SettingsAck(), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.5", "SETTINGS for a stream", Frame(NGHTTP2_SETTINGS, 0, 1), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.5", "SETTINGS of 5 bytes", Frame(NGHTTP2_SETTINGS, 0, 0, "abcde"),
       kGoAway, NGHTTP2_FRAME_SIZE_ERROR},
      {"6.5", "SETTINGS with 33 entries", Settings(many), kGoAway,
       NGHTTP2_ENHANCE_YOUR_CALM},
      {"6.5.2", "ENABLE_PUSH of 2", Settings({{2, 2}}), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.5.2", "INITIAL_WINDOW_SIZE of 2^31", Settings({{4, 1u << 31}}),
       kGoAway, NGHTTP2_FLOW_CONTROL_ERROR},
      {"6.5.2", "MAX_FRAME_SIZE of 16 383", Settings({{5, 16383}}), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.5.2", "MAX_FRAME_SIZE of 2^24", Settings({{5, 1 << 24}}), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.5.2", "MAX_FRAME_SIZE of 2^24 - 1", Settings({{5, (1 << 24) - 1}}),
       kFine},
      {"6.5.2", "ENABLE_CONNECT_PROTOCOL of 2", Settings({{8, 2}}), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.5.2", "an unknown setting", Settings({{0xff, 1}}), kFine},
      {"6.5.3", "a setting twice", Settings({{4, 100}, {4, 200}}), kFine},
      {"6.6", "PUSH_PROMISE",
       Post(1) + Frame(NGHTTP2_PUSH_PROMISE, kEndHeaders, 1,
                       Bytes(2, 4) + Block(PostFields())),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.7", "PING for a stream", Frame(NGHTTP2_PING, 0, 1, "12345678"),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.7", "PING of 7 bytes", Ping("1234567"), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"6.7", "an acknowledgement of no PING", Ping("12345678", kAck), kFine},
      {"6.8", "GOAWAY for a stream",
       Frame(NGHTTP2_GOAWAY, 0, 1, std::string(8, '\0')), kGoAway,
       NGHTTP2_PROTOCOL_ERROR},
      {"6.8", "GOAWAY of 7 bytes",
       Frame(NGHTTP2_GOAWAY, 0, 0, std::string(7, '\0')), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"6.8", "GOAWAY while a call runs", Post(1) + GoAway(0, 0, "bye"), kFine},
      {"6.9", "an update by 0 of the connection's window", Window(0, 0),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.9", "an update by 0 of a stream's window", Post(1) + Window(1, 0),
       kGoAway, NGHTTP2_PROTOCOL_ERROR},
      {"6.9", "WINDOW_UPDATE of 3 bytes",
       Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, "abc"), kGoAway,
       NGHTTP2_FRAME_SIZE_ERROR},
      {"6.9.1", "a connection's window above 2^31 - 1", Window(0, kMostWindow),
       kGoAway, NGHTTP2_FLOW_CONTROL_ERROR},
      {"6.9.1", "a stream's window above 2^31 - 1",
       Post(1) + Window(1, kMostWindow), kStream, NGHTTP2_FLOW_CONTROL_ERROR},
      {"6.9.1", "more DATA than the stream's window", Post(1) + stream_window,
       kStream, NGHTTP2_FLOW_CONTROL_ERROR},
      {"6.9.1", "more DATA than the connection's window",
       Post(1) + Post(3) + Post(5) + connection_window, kGoAway,
       NGHTTP2_FLOW_CONTROL_ERROR},
      {"6.9.2", "SETTINGS that open a stream's window too far",
       Post(1) + Window(1, kMostWindow - 65535) + Settings({{4, kMostWindow}}),
       kStream, NGHTTP2_FLOW_CONTROL_ERROR},
      {"6.9.2", "a window that becomes negative",
       Post(1) + Settings({{4, 0}}) + Settings({{4, 1}}), kFine},
  };
}

// "POST; a=b": the fields of a request's head, with C escapes.
FieldList FieldsOf(const std::string& text) {
  FieldList fields;
  for (absl::string_view field : absl::StrSplit(text, "; ")) {
    if (field == "POST") {
      fields = PostFields();
      continue;
    }
    // A pseudo-header field's colon is a part of its name.
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(field, absl::MaxSplits('=', 1));
    fields.emplace_back(testing::Unescape(std::string(parts.first)),
                        testing::Unescape(std::string(parts.second)));
  }
  return fields;
}

std::vector<Case> HeadCases() {
  std::vector<Case> cases;
  for (const auto& row :
       testing::ReadRows("tests/net/http2/request_heads.tsv", 4, 44)) {
    const bool fine = row[3] == "fine";
    cases.push_back({row[0], row[1], Only(FieldsOf(row[2])),
                     fine ? Outcome::kFine : Outcome::kStream,
                     fine ? 0u : uint32_t{NGHTTP2_PROTOCOL_ERROR}});
  }
  return cases;
}

std::vector<Case> MessageCases() {
  constexpr auto kFine = Outcome::kFine;
  constexpr auto kStream = Outcome::kStream;
  constexpr uint32_t kProtocol = NGHTTP2_PROTOCOL_ERROR;
  return {
      {"8.1", "trailers", Post(1) + Headers(1, {{"a", "b"}}, kEndStream),
       kFine},
      {"8.1", "trailers that do not end the stream",
       Post(1) + Headers(1, {{"a", "b"}}), kStream, kProtocol},
      {"8.1", "trailers with a pseudo-header field",
       Post(1) + Headers(1, {{":path", "/"}}, kEndStream), kStream, kProtocol},
      {"8.1", "trailers with a connection field",
       Post(1) + Headers(1, {{"connection", "x"}}, kEndStream), kStream,
       kProtocol},
      {"8.1.1", "less body than Content-Length",
       With({{"content-length", "4"}}) + Data(1, "abc", kEndStream), kStream,
       kProtocol},
      {"8.1.1", "more body than Content-Length",
       With({{"content-length", "2"}}) + Data(1, "abc"), kStream, kProtocol},
      {"8.1.1", "less body than Content-Length, and trailers",
       With({{"content-length", "4"}}) + Data(1, "abc") +
           Headers(1, {{"a", "b"}}, kEndStream),
       kStream, kProtocol},
      {"8.1.1", "a Content-Length that is met",
       With({{"content-length", "3"}}) + Data(1, "abc", kEndStream), kFine},
      {"8.1.1", "a Content-Length that is no number",
       With({{"content-length", "1x"}}), kStream, kProtocol},
      {"8.1.1", "a negative Content-Length", With({{"content-length", "-1"}}),
       kStream, kProtocol},
      {"8.1.1", "a Content-Length of 20 digits",
       With({{"content-length", "99999999999999999999"}}), kStream, kProtocol},
      {"10.5.1", "a head of 300 KiB",
       OpenHead(1) +
           [] {
             std::string rest;
             for (int i = 0; i < 7; ++i) {
               rest += Continuation(1, Block({{"a", std::string(16000, 'x')}}));
             }
             // Each of these bytes repeats a field of 4000 bytes.
             return rest +
                    Continuation(1,
                                 "\x40\x01" + std::string("a\x7f\xa1\x1e") +
                                     std::string(4000, 'x') +
                                     std::string(100, '\xbe'),
                                 kEndHeaders);
           }(),
       kStream, NGHTTP2_ENHANCE_YOUR_CALM},
  };
}

std::vector<Case> AllCases() {
  std::vector<Case> all;
  for (auto part : {FramingCases(), StateCases(), FrameCases(), HeadCases(),
                    MessageCases()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
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
      EXPECT_EQ(reset.stream, test.stream);
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
  if (!test.raw) client.Connect();
  if (byte_by_byte) {
    for (char byte : test.frames) {
      if (!client.Send({&byte, 1})) break;
    }
  } else {
    client.Send(test.frames);
  }
  client.Read();
  CheckCase(test, &client);
  client.Destroy();
  for (const auto& [id, call] : client.events.calls) {
    EXPECT_EQ(call.closed, 1) << id;
  }
}

TEST(ServerRulesTest, EveryBreachHasItsError) {
  const std::vector<Case> cases = AllCases();
  EXPECT_GE(cases.size(), 80u);
  for (const Case& test : cases) {
    SCOPED_TRACE(test.section + ": " + test.name);
    RunCase(test, /*byte_by_byte=*/false);
  }
}

TEST(ServerRulesTest, TheSameHoldsForFramesInPieces) {
  for (const Case& test : AllCases()) {
    SCOPED_TRACE(test.section + ": " + test.name);
    RunCase(test, /*byte_by_byte=*/true);
  }
}

}  // namespace
}  // namespace hotline::net
