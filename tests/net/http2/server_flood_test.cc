// A hostile client: 20 000 frames of each kind that costs more than it gives.
#include <malloc.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/net/http2/raw_frames.h"

namespace hotline::net {
namespace {

constexpr int kFrames = 20'000;
constexpr int kUseless = 1010;  // Roughly what the account forgives.
constexpr int kResets = 1510;

// Of this process; stays 0 under sanitizers, which have a heap of their own.
size_t HeapBytes() { return mallinfo2().uordblks; }

struct Flood {
  const char* name;
  // The frames of round `i`, from 0.
  std::function<std::string(uint32_t i)> frames;
  int most = kUseless;  // Rounds that may pass before the client is cut off.
  std::string before = {};
  // Before the client has acknowledged our SETTINGS.
  bool unacknowledged = false;
};

// New streams, past those that are open.
uint32_t NewId(uint32_t i) { return 101 + 2 * i; }

std::function<std::string(uint32_t)> Always(const std::string& frames) {
  return [frames](uint32_t) { return frames; };
}

std::string HpackBomb(uint32_t id) {
  // Each byte names a field of 4000 bytes.
  return Frame(NGHTTP2_HEADERS, kEndHeaders | kEndStream, id,
               std::string(16384, '\xbe'));
}
std::string BombEntry(uint32_t id) {
  return Frame(NGHTTP2_HEADERS, kEndHeaders | kEndStream, id,
               Block(PostFields()) + "\x40\x01" + std::string("a\x7f\xa1\x1e") +
                   std::string(4000, 'x'));
}

// Streams: 1 is answered, 3 is open, 5 was reset by the client.
std::vector<Flood> FloodsOfFrames() {
  std::vector<std::pair<uint16_t, uint32_t>> large;
  for (uint16_t i = 0; i < 32; ++i) large.push_back({uint16_t(i + 1000), i});
  return {
      {"SETTINGS", Always(Settings())},
      {"large SETTINGS", Always(Settings(large))},
      {"SETTINGS that move all windows",
       Always(Settings({{4, 0}, {4, 65535}}))},
      {"SETTINGS that change the table", Always(Settings({{1, 0}, {1, 4096}}))},
      {"PING", Always(Ping()), 4},
      {"answers to no PING", Always(Ping("12345678", kAck))},
      {"PRIORITY", Always(Frame(NGHTTP2_PRIORITY, 0, 3, Bytes(0, 4) + '\x10'))},
      {"PRIORITY of idle streams",
       [](uint32_t i) {
         return Frame(NGHTTP2_PRIORITY, 0, NewId(i), Bytes(3, 4) + '\x10');
       }},
      {"WINDOW_UPDATE", Always(Window(0, 1))},
      {"WINDOW_UPDATE of a stream", Always(Window(3, 1))},
      {"WINDOW_UPDATE of a closed stream", Always(Window(1, 1))},
      {"RST_STREAM of a closed stream", Always(Rst(1))},
      {"RST_STREAM of a stream that was reset", Always(Rst(5))},
      {"RST_STREAM of idle streams", [](uint32_t i) { return Rst(NewId(i)); }},
      {"GOAWAY", Always(GoAway(0, 0, std::string(1000, 'x')))},
      {"empty DATA", Always(Data(3, ""))},
      {"DATA of padding",
       Always(Data(3, '\xc8' + std::string(200, '\0'), kPadded))},
      {"frames of unknown type", Always(Frame(0xfe, 0xff, 3, "whatever"))},
      {"ALTSVC", Always(Frame(0xa, 0, 0, "whatever"))},
      {"ORIGIN", Always(Frame(0xc, 0, 0, "whatever"))},
      {"PRIORITY_UPDATE", Always(Frame(0x10, 0, 0, Bytes(3, 4) + "u=1"))},
      {"empty CONTINUATION", Always(Frame(NGHTTP2_CONTINUATION, 0, 101)), 10,
       Frame(NGHTTP2_HEADERS, 0, 101, "\x82")},
      {"full CONTINUATION",
       Always(Frame(NGHTTP2_CONTINUATION, 0, 101,
                    Block({{"a", std::string(16000, 'x')}}))),
       10, Frame(NGHTTP2_HEADERS, 0, 101, "\x82")},
  };
}

std::vector<Flood> FloodsOfCalls() {
  const std::string no_path = Block({{":method", "POST"}, {":scheme", "http"}});
  return {
      {"rapid reset", [](uint32_t i) { return Post(NewId(i)) + Rst(NewId(i)); },
       kResets},
      {"rapid reset of complete requests",
       [](uint32_t i) { return Post(NewId(i), kEndStream) + Rst(NewId(i)); },
       kResets},
      {"requests without :path",
       [no_path](uint32_t i) {
         return Frame(NGHTTP2_HEADERS, kEndHeaders | kEndStream, NewId(i),
                      no_path);
       },
       kUseless},
      {"requests with a bad field",
       [](uint32_t i) {
         return Post(NewId(i), kEndStream, {{"X", "y"}});
       },
       kUseless},
      {"trailers that do not end",
       [](uint32_t i) {
         return Post(NewId(i)) + Headers(NewId(i), {{"a", "b"}});
       },
       kUseless},
      {"resets provoked by a window",
       [](uint32_t i) { return Post(NewId(i)) + Window(NewId(i), 0x7fffffff); },
       kUseless},
      {"resets provoked by Content-Length",
       [](uint32_t i) {
         return Post(NewId(i), kNoFlag, {{"content-length", "1"}}) +
                Data(NewId(i), "xx");
       },
       kResets},
      {"streams past the limit", [](uint32_t i) { return Post(NewId(i)); },
       1100},
      {"streams past the limit, unacknowledged",
       [](uint32_t i) { return Post(NewId(i)); }, 1100 + kUseless, "", true},
      {"bombs of HPACK", [](uint32_t i) { return HpackBomb(NewId(i + 1)); },
       kUseless, BombEntry(101)},
      {"heads of 300 KiB",
       [](uint32_t i) {
         std::string head = Frame(NGHTTP2_HEADERS, kEndStream, NewId(i + 1),
                                  Block(PostFields()));
         return head + Frame(NGHTTP2_CONTINUATION, kEndHeaders, NewId(i + 1),
                             std::string(100, '\xbe'));
       },
       kUseless, BombEntry(101)},
  };
}

class ServerFloodTest : public ::testing::Test {
 protected:
  void Connect(const Flood& flood) {
    client_ = std::make_unique<RawClient>();
    client_->Send(Preface() + Settings());
    if (!flood.unacknowledged) client_->Send(SettingsAck());
    client_->Send(Post(1, kEndStream) + Post(3) + Post(5) + Rst(5));
    client_->session().SubmitHeaders(client_->events.calls[1].stream,
                                     {{":status", "200"}}, true);
    client_->Read();
    client_->events.keep_no_calls = true;
    ASSERT_TRUE(client_->Send(flood.before));
    client_->Read();
  }

  void RunFlood(const Flood& flood, bool reads) {
    SCOPED_TRACE(std::string(flood.name) + (reads ? "" : ", nothing is read"));
    Connect(flood);
    if (!reads) {
      client_->Send(Ping());
      client_->Stall();
    }
    const size_t heap = HeapBytes();
    size_t most_heap = heap;
    int passed = 0;
    for (int i = 0; i < kFrames && client_->Send(flood.frames(i)); ++i) {
      ++passed;
      if (reads) client_->Read();
      client_->seen.clear();
      most_heap = std::max(most_heap, HeapBytes());
    }
    // nghttp2 gives a connection up by a GOAWAY, which has to wait then.
    EXPECT_LE(passed, flood.most + (reads ? 0 : kUseless));
    EXPECT_LT(most_heap - heap, 1'500'000u);
    EXPECT_LT(client_->bytes_read, 100'000u);
    EXPECT_TRUE(client_->session().end() == SessionEnd::kFlood ||
                client_->session().end() == SessionEnd::kPeerError);
    EXPECT_EQ(client_->session().open_streams(), 0u);
    client_->Read();
    EXPECT_TRUE(client_->session().finished());
    EXPECT_EQ(client_->events.disorders, 0);
  }

  std::unique_ptr<RawClient> client_;
};

TEST_F(ServerFloodTest, UselessFramesAreCutOff) {
  for (const Flood& flood : FloodsOfFrames()) {
    RunFlood(flood, /*reads=*/true);
    RunFlood(flood, /*reads=*/false);
  }
}

TEST_F(ServerFloodTest, UselessCallsAreCutOff) {
  for (const Flood& flood : FloodsOfCalls()) {
    RunFlood(flood, /*reads=*/true);
    RunFlood(flood, /*reads=*/false);
  }
}

TEST_F(ServerFloodTest, RequestsAfterTheLastGoAwayAreCutOff) {
  Connect({"", nullptr});
  client_->session().StartDrain(client_->now);
  client_->Read();
  client_->now += std::chrono::seconds(10);
  client_->session().OnTimer(client_->now);
  client_->Read();
  int passed = 0;
  while (passed < kFrames && client_->Send(Post(NewId(passed)))) ++passed;
  EXPECT_LE(passed, kUseless);
}

TEST_F(ServerFloodTest, DataThatCrossedAResetIsIgnoredAndThenPaidFor) {
  Connect({"", nullptr});
  client_->Send(Post(7));
  client_->session().Reset(client_->events.calls[7].stream, NGHTTP2_CANCEL);
  client_->Read();
  int passed = 0;
  while (passed < kFrames && client_->Send(Data(7, "x"))) ++passed;
  EXPECT_LE(passed, kUseless);
  EXPECT_GT(passed, 900);
}

// Clients that are no enemies.

TEST_F(ServerFloodTest, ManyOpenCallsAreFine) {
  RawClient client;
  client.Connect();
  for (int i = 0; i < 1024; ++i) ASSERT_TRUE(client.Send(Post(1 + 2 * i)));
  EXPECT_EQ(client.session().open_streams(), 1024u);
}

TEST_F(ServerFloodTest, CallsThatTimeOutAtTheirClientAreFine) {
  RawClient client;
  client.events.keep_no_calls = true;
  client.Connect();
  uint32_t id = 1;
  for (int round = 0; round < 20; ++round) {
    const uint32_t first = id;
    for (int i = 0; i < 1000; ++i, id += 2) {
      ASSERT_TRUE(client.Send(Post(id, kEndStream)));
    }
    client.now += std::chrono::milliseconds(500);
    for (uint32_t reset = first; reset < id; reset += 2) {
      ASSERT_TRUE(client.Send(Rst(reset))) << round;
    }
    client.Read();
  }
}

TEST_F(ServerFloodTest, QuickCancelsBetweenAnswersAreFine) {
  RawClient client;
  client.events.keep_no_calls = true;
  client.events.on_end = [&](ServerStream* stream) {
    if (stream->id() % 4 == 1) return;
    client.session().SubmitHeaders(stream, {{":status", "200"}}, true);
  };
  client.Connect();
  for (uint32_t id = 1; id < 20'000; id += 4) {
    ASSERT_TRUE(
        client.Send(Post(id, kEndStream) + Post(id + 2, kEndStream) + Rst(id)))
        << id;
    client.Read();
  }
}

TEST_F(ServerFloodTest, UpdatesForWhatWasSentAreFine) {
  RawClient client;
  client.events.keep_no_calls = true;
  client.Connect();
  client.Send(Post(1));
  ServerStream* stream = nullptr;
  client.events.on_request = [&](ServerStream* s) { stream = s; };
  client.Send(Post(3));
  ASSERT_NE(stream, nullptr);
  client.session().SubmitHeaders(stream, {{":status", "200"}}, false);
  const std::string body(10'000, 'x');
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(client.session().SubmitData(stream, body), 0u);
    client.Read();
    client.seen.clear();
    for (int part = 0; part < 10; ++part) {
      ASSERT_TRUE(client.Send(Window(3, 1000) + Window(0, 1000))) << i;
    }
  }
}

TEST_F(ServerFloodTest, TimeForgivesUselessFrames) {
  RawClient client;
  client.Connect();
  for (int i = 0; i < 10'000; ++i) {
    client.now += std::chrono::milliseconds(10);
    ASSERT_TRUE(client.Send(Window(0, 1))) << i;
  }
}

}  // namespace
}  // namespace hotline::net
