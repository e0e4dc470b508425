// Stories of the HTTP/2 codec against a server in memory.
#include "upstream/codec/http2.h"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/upstream/codec/http2_driver.h"

namespace hotline::upstream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kNotSent[] = "error gone NOT_SENT";
constexpr char kRefused[] = "error reset REFUSED_BY_PEER";
constexpr char kSentUnknown[] = "error reset SENT_UNKNOWN";
constexpr char kAnswered[] = "200 body=[ok] complete";

std::string Pattern(size_t size) {
  std::string text(size, 0);
  for (size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

class Http2Test : public ::testing::Test {
 protected:
  void Connect(const Http2Peer::Options& options = {},
               const Http2Limits& limits = {}) {
    recorder_ = Http2Recorder();
    peer_ = std::make_unique<Http2Peer>(options);
    codec_ = MakeHttp2Codec(&recorder_, &recorder_, "https", limits);
    Exchange();
    ASSERT_TRUE(codec_->CanSubmit() || options.max_streams == 0);
    recorder_.connection.clear();
  }

  StreamId Submit(std::string_view method = "GET", std::string_view body = {}) {
    Request request;
    request.method = method;
    request.authority = "example.com";
    request.body = body;
    return codec_->Submit(request);
  }

  // Bytes go both ways until there are none.
  void Exchange() {
    for (;;) {
      const std::string out = Flush(codec_.get());
      ASSERT_TRUE(peer_->Feed(out));
      const std::string in = peer_->TakeOutput();
      if (out.empty() && in.empty()) return;
      for (size_t at = 0; at < in.size(); at += piece_) {
        const std::string piece = in.substr(at, piece_);
        ASSERT_TRUE(codec_->Feed(piece)) << codec_->error().message;
      }
    }
  }

  // Feeds by hand what no server of ours would send.
  bool Feed(const std::string& frames) { return codec_->Feed(frames); }

  void AnswerAll() {
    peer_->on_end = [this](StreamId id) {
      peer_->Answer(id, {{":status", "200"}}, "ok");
    };
  }

  Http2Recorder recorder_;
  std::unique_ptr<Http2Peer> peer_;
  std::unique_ptr<Codec> codec_;
  size_t piece_ = 1 << 20;
};

TEST_F(Http2Test, RequestsWaitForThePeersSettings) {
  codec_ = MakeHttp2Codec(&recorder_, &recorder_, "https");
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_EQ(codec_->MaxStreams(), 0);
  EXPECT_TRUE(codec_->WantsWrite());
  const std::string out = Flush(codec_.get());
  EXPECT_THAT(out, testing::StartsWith("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
  // No push, 64 KiB a stream at first, 64 KiB of headers; 16 MiB in all.
  EXPECT_THAT(out, HasSubstr(SettingsFrame({{2, 0}, {4, 65536}, {6, 65536}})));
  EXPECT_THAT(out, HasSubstr(WindowFrame(0, (16 << 20) - 65535)));

  EXPECT_TRUE(Feed(SettingsFrame({{3, 100}})));
  EXPECT_THAT(recorder_.connection, ElementsAre("ready 100"));
  EXPECT_TRUE(codec_->CanSubmit());
  EXPECT_EQ(codec_->MaxStreams(), 100);
  EXPECT_THAT(Flush(codec_.get()), HasSubstr(Frame(4, kAck, 0)));
}

TEST_F(Http2Test, OurOwnCapHoldsWhereThePeerSetsNone) {
  codec_ = MakeHttp2Codec(&recorder_, &recorder_, "https", {.max_streams = 20});
  EXPECT_TRUE(Feed(SettingsFrame()));
  EXPECT_EQ(codec_->MaxStreams(), 20);
  EXPECT_TRUE(Feed(SettingsFrame({{3, 0xffffffff}})));
  EXPECT_THAT(recorder_.connection, ElementsAre("ready 20"));
}

TEST_F(Http2Test, ARequestArrivesWithoutWhatBelongsToConnections) {
  Connect();
  const HeaderView headers[] = {
      {"Accept", "a"},         {"X-Two", "1"},
      {"x-two", "2"},          {"Host", "example.com"},
      {"Connection", "close"}, {"Keep-Alive", "1"},
      {"Upgrade", "x"},        {"Proxy-Connection", "x"},
      {"TE", "trailers"},      {"Transfer-Encoding", "chunked"},
      {"HTTP2-Settings", "x"}, {"Content-Length", "77"},
      {"Cookie", "a=b; c=d"},
  };
  codec_->Submit({.method = "POST",
                  .authority = "example.com:8443",
                  .path = "/p?q",
                  .headers = headers,
                  .body = "hello"});
  Exchange();
  std::string all;
  for (const Header& h : peer_->requests[1].headers) {
    all += h.name + "=" + h.value + "\n";
  }
  EXPECT_EQ(all,
            ":method=POST\n:scheme=https\n:authority=example.com:8443\n"
            ":path=/p?q\naccept=a\nx-two=1\nx-two=2\nte=trailers\n"
            "cookie=a=b; c=d\ncontent-length=5\n");
  EXPECT_EQ(peer_->requests[1].body, "hello");
  EXPECT_TRUE(peer_->requests[1].ended);
}

TEST_F(Http2Test, TheSchemeIsTheConnections) {
  Connect();
  codec_ = MakeHttp2Codec(&recorder_, &recorder_, "http");
  peer_ = std::make_unique<Http2Peer>(Http2Peer::Options());
  Exchange();
  const HeaderView te[] = {{"te", "gzip"}};
  codec_->Submit({.authority = "h", .headers = te});
  Exchange();
  EXPECT_EQ(peer_->requests[1].Get(":scheme"), "http");
  EXPECT_EQ(peer_->requests[1].Get("te"), "");
  EXPECT_EQ(peer_->requests[1].Get("content-length"), "");
}

TEST_F(Http2Test, EmptyBodiesAreAnnouncedWhereOneIsExpected) {
  Connect();
  for (const char* method : {"POST", "PUT", "PATCH"}) Submit(method);
  Submit("DELETE");
  Exchange();
  for (StreamId id : {1, 3, 5}) {
    EXPECT_EQ(peer_->requests[id].Get("content-length"), "0");
  }
  EXPECT_EQ(peer_->requests[7].Get("content-length"), "");
  for (StreamId id : {1, 3, 5, 7}) EXPECT_TRUE(peer_->requests[id].ended);
}

TEST_F(Http2Test, AnAnswerComesWithBodyAndTrailers) {
  Connect();
  const StreamId id = Submit();
  EXPECT_EQ(codec_->open_streams(), 1u);
  Exchange();
  peer_->Answer(id, {{":status", "201"}, {"a", "b"}}, "hello", {{"t", "1"}});
  Exchange();
  EXPECT_EQ(recorder_.Text(id),
            "201 a=[b] body=[hello] trailer t=[1] complete");
  EXPECT_EQ(codec_->open_streams(), 0u);
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http2Test, ALargeHeadGoesInManyFrames) {
  Connect();
  const std::string value(60000, 'v');
  const HeaderView headers[] = {{"a", value}};
  codec_->Submit({.authority = "h", .headers = headers});
  Exchange();
  EXPECT_EQ(peer_->requests[1].Get("a"), value);
}

TEST_F(Http2Test, ABodyLargerThanTheWindowsArrivesWhole) {
  for (const size_t piece : {size_t{1} << 20, size_t{1000}}) {
    piece_ = piece;
    Connect();
    const std::string body = Pattern(3 << 20);
    auto view = std::make_unique<std::string>(body);
    Submit("POST", *view);
    view.reset();  // It lives during Submit only.
    Exchange();
    EXPECT_TRUE(peer_->requests[1].body == body);
    EXPECT_TRUE(peer_->requests[1].ended);
  }
}

TEST_F(Http2Test, OneOutputIsBounded) {
  Connect({.stream_window = 8 << 20, .connection_window = 8 << 20});
  const std::string body = Pattern(3 << 20);
  Submit("POST", body);
  std::string sent;
  int takes = 0;
  for (; codec_->WantsWrite(); ++takes) {
    std::string out;
    codec_->TakeOutput(&out);
    EXPECT_LE(out.size(), (256u << 10) + (17u << 10));
    codec_->OnWritten(out.size());
    EXPECT_TRUE(peer_->Feed(out));
  }
  EXPECT_GE(takes, 12);
  EXPECT_TRUE(peer_->requests[1].body == body);
}

TEST_F(Http2Test, ManyRequestsAreOneOutput) {
  Connect();
  for (int i = 0; i < 100; ++i) Submit("POST", "hello");
  std::string out;
  codec_->TakeOutput(&out);
  EXPECT_FALSE(codec_->WantsWrite());
  codec_->OnWritten(out.size());
  EXPECT_TRUE(peer_->Feed(out));
  EXPECT_EQ(peer_->requests.size(), 100u);
}

TEST_F(Http2Test, AWindowOfNothingHoldsBodiesAndNotHeads) {
  Connect({.stream_window = 0});
  Submit("POST", "hello");
  Submit();
  Exchange();
  EXPECT_EQ(peer_->requests[1].Get("content-length"), "5");
  EXPECT_EQ(peer_->requests[1].body, "");
  EXPECT_TRUE(peer_->requests[3].ended);
  EXPECT_FALSE(codec_->WantsWrite());
  peer_->Set({{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 3}});
  Exchange();
  EXPECT_EQ(peer_->requests[1].body, "hello");
  EXPECT_TRUE(peer_->requests[1].ended);
}

TEST_F(Http2Test, LargeAnswersPassTheWindows) {
  Connect();
  const std::string body = Pattern(40 << 20);
  const StreamId id = Submit();
  std::string got;
  recorder_.on_body = [&](StreamId, std::string_view) {
    got += recorder_.streams[id].body;
    recorder_.streams[id].body.clear();
  };
  Exchange();
  peer_->Answer(id, {{":status", "200"}}, body);
  Exchange();
  EXPECT_TRUE(got == body);
  EXPECT_EQ(recorder_.Text(id), "200 body=[] complete");
}

TEST_F(Http2Test, TheSameHappensHoweverTheBytesAreCut) {
  std::set<std::string> outcomes;
  for (const size_t piece : {1, 2, 7, 100, 16384, 1 << 20}) {
    piece_ = piece;
    Connect();
    peer_->on_end = [this](StreamId id) {
      if (id % 4 == 3) return peer_->Reset(id, NGHTTP2_REFUSED_STREAM);
      peer_->Answer(id, {{":status", "200"}, {"id", std::to_string(id)}},
                    Pattern(id * 1000), {{"t", "x"}});
    };
    for (int i = 0; i < 20; ++i) Submit("POST", std::string(i * 300, 'b'));
    Exchange();
    EXPECT_EQ(recorder_.completed, 10);
    EXPECT_EQ(recorder_.failed, 10);
    EXPECT_EQ(recorder_.disorders(), 0);
    outcomes.insert(recorder_.All());
  }
  EXPECT_EQ(outcomes.size(), 1u);
}

// Concurrency.

TEST_F(Http2Test, AThousandCallsGoOverALimitOf128) {
  Connect({.max_streams = 128});
  AnswerAll();
  size_t most = 0;
  for (int submitted = 0; submitted < 1000;) {
    while (submitted < 1000 && codec_->CanSubmit()) {
      Submit("POST", "x");
      ++submitted;
    }
    EXPECT_EQ(codec_->open_streams(),
              std::min<size_t>(128, 1000 - recorder_.completed));
    const std::string out = Flush(codec_.get());
    ASSERT_TRUE(peer_->Feed(out));
    most = std::max(most, peer_->open());
    ASSERT_TRUE(Feed(peer_->TakeOutput()));
  }
  EXPECT_EQ(recorder_.completed, 1000);
  EXPECT_EQ(recorder_.failed, 0);
  EXPECT_EQ(most, 128u);
}

TEST_F(Http2Test, TheLimitShrinksTo10And1And0AndGrowsInFlight) {
  Connect({.max_streams = 100});
  for (int i = 0; i < 50; ++i) Submit();
  Exchange();
  for (const int limit : {10, 1, 0}) {
    peer_->SetMaxStreams(limit);
    Exchange();
    EXPECT_EQ(codec_->MaxStreams(), limit);
    EXPECT_FALSE(codec_->CanSubmit());
    EXPECT_EQ(codec_->open_streams(), 50u);
  }
  for (StreamId id = 1; id < 100; id += 2) {
    peer_->Answer(id, {{":status", "200"}}, "ok");
  }
  Exchange();
  EXPECT_EQ(recorder_.completed, 50);
  EXPECT_FALSE(codec_->CanSubmit());
  peer_->SetMaxStreams(2);
  Exchange();
  Submit();
  EXPECT_TRUE(codec_->CanSubmit());
  Submit();
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_THAT(recorder_.connection,
              ElementsAre("concurrency 10", "concurrency 1", "concurrency 0",
                          "concurrency 2"));
}

TEST_F(Http2Test, StreamsThatCrossedAShrinkingLimitAreRefusedNotLost) {
  Connect({.max_streams = 100});
  peer_->SetMaxStreams(1);  // Not there yet when we submit.
  const std::string settings = peer_->TakeOutput();
  for (int i = 0; i < 5; ++i) Submit();
  ASSERT_TRUE(Feed(settings));
  AnswerAll();
  Exchange();
  EXPECT_EQ(recorder_.Text(1), kAnswered);
  for (StreamId id : {3, 5, 7, 9}) EXPECT_EQ(recorder_.Text(id), kRefused);
}

TEST_F(Http2Test, CancelledStreamsMakeRoomAtOnce) {
  Connect({.max_streams = 2});
  AnswerAll();
  for (int i = 0; i < 100; ++i) {
    const StreamId first = Submit("POST", "x");
    const StreamId second = Submit();
    EXPECT_FALSE(codec_->CanSubmit());
    codec_->Cancel(first);
    EXPECT_TRUE(codec_->CanSubmit());
    const StreamId third = Submit();
    Exchange();
    EXPECT_EQ(recorder_.Text(first), "");
    EXPECT_EQ(recorder_.Text(second), kAnswered);
    EXPECT_EQ(recorder_.Text(third), kAnswered);
  }
}

TEST_F(Http2Test, NoFurtherRequestsWhileThePeerReadsNothing) {
  Connect({.max_streams = 1000}, {.max_streams = 1000});
  const std::string value(60000, 'v');
  const HeaderView headers[] = {{"a", value}};
  int submitted = 0;
  for (; codec_->CanSubmit() && submitted < 1000; ++submitted) {
    codec_->Submit({.authority = "h", .headers = headers, .body = "x"});
  }
  EXPECT_LT(submitted, 40);
  Exchange();
  EXPECT_TRUE(codec_->CanSubmit());
}

// Ends.

TEST_F(Http2Test, GoAwayLetsTheOldFinishAndRefusesTheYoung) {
  Connect();
  for (int i = 0; i < 5; ++i) Submit();
  Exchange();
  bool told_first = false;
  recorder_.on_error = [&](StreamId) {
    told_first = !recorder_.connection.empty();
  };
  peer_->GoAway(5, NGHTTP2_NO_ERROR);
  Exchange();
  EXPECT_TRUE(told_first);
  EXPECT_THAT(recorder_.connection, ElementsAre("goaway 5 NO_ERROR"));
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_EQ(codec_->open_streams(), 3u);
  for (StreamId id : {7, 9}) EXPECT_EQ(recorder_.Text(id), kRefused);
  for (StreamId id : {1, 3, 5}) {
    peer_->Answer(id, {{":status", "200"}}, "ok");
    Exchange();
    EXPECT_EQ(recorder_.Text(id), kAnswered);
  }
  EXPECT_EQ(codec_->open_streams(), 0u);
  EXPECT_FALSE(codec_->CanSubmit());
}

TEST_F(Http2Test, AFarewellInTwoStepsLosesNothing) {
  Connect();
  AnswerAll();
  const StreamId first = Submit();
  ASSERT_TRUE(Feed(GoAwayFrame(0x7fffffff, 0)));
  EXPECT_FALSE(codec_->CanSubmit());
  ASSERT_TRUE(Feed(GoAwayFrame(first, 11, "so\tlong")));
  Exchange();
  EXPECT_EQ(recorder_.Text(first), kAnswered);
  EXPECT_THAT(recorder_.connection,
              ElementsAre("goaway 2147483647 NO_ERROR",
                          "goaway 1 ENHANCE_YOUR_CALM: so?long"));
}

TEST_F(Http2Test, TheEndGivesEachStreamItsVerdict) {
  Connect();
  AnswerAll();
  const StreamId done = Submit();
  Exchange();
  const StreamId started = Submit();
  const StreamId sent = Submit();
  Flush(codec_.get());
  ASSERT_TRUE(Feed(HeadersFrame(started, {{":status", "200"}})));
  const StreamId half = Submit("POST", std::string(70000, 'x'));
  Flush(codec_.get());  // As far as the window goes.
  const StreamId unsent = Submit();
  EXPECT_EQ(codec_->VerdictOf(sent), Verdict::kSentUnknown);
  EXPECT_EQ(codec_->VerdictOf(half), Verdict::kPartial);
  EXPECT_EQ(codec_->VerdictOf(unsent), Verdict::kNotSent);
  codec_->FeedEof();
  EXPECT_EQ(recorder_.Text(done), kAnswered);
  EXPECT_EQ(recorder_.Text(started),
            "200 body=[] error reset RESPONSE_STARTED");
  EXPECT_EQ(recorder_.Text(sent), kSentUnknown);
  EXPECT_EQ(recorder_.Text(half), "error reset PARTIAL");
  EXPECT_EQ(recorder_.Text(unsent), kNotSent);
  EXPECT_EQ(codec_->open_streams(), 0u);
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_FALSE(codec_->WantsWrite());
  EXPECT_FALSE(Feed("x"));
}

// Where a stream's frames begin and end in an output.
struct Place {
  size_t begin = 0, end = 0;
};
std::map<StreamId, Place> PlacesIn(const std::string& out) {
  std::map<StreamId, Place> places;
  for (size_t at = 0; at < out.size();) {
    const auto byte = [&](size_t i) {
      return static_cast<unsigned char>(out[at + i]);
    };
    const size_t size = 9 + (byte(0) << 16 | byte(1) << 8 | byte(2));
    const StreamId id = byte(7) << 8 | byte(8);
    if (places.count(id) == 0) places[id].begin = at;
    places[id].end = at + size;
    at += size;
  }
  return places;
}

TEST_F(Http2Test, TheVerdictIsRightAfterEachByteThatWasWritten) {
  std::string out;
  for (size_t written = 0; written == 0 || written <= out.size(); ++written) {
    Connect();
    codec_->Ping();  // Something that belongs to no stream.
    Submit();
    Submit("POST", "hello");
    Submit();
    out.clear();
    codec_->TakeOutput(&out);
    codec_->OnWritten(written);
    const auto places = PlacesIn(out);
    codec_->FeedEof();
    for (StreamId id : {1, 3, 5}) {
      const Place place = places.at(id);
      EXPECT_EQ(recorder_.Text(id), written <= place.begin ? kNotSent
                                    : written < place.end
                                        ? "error reset PARTIAL"
                                        : kSentUnknown)
          << written;
    }
  }
  EXPECT_GT(out.size(), 50u);
}

TEST_F(Http2Test, AnAnswerToWhatWasNotWrittenIsNoAnswer) {
  for (const std::string& frame :
       {HeadersFrame(1, {{":status", "200"}}, kEndStream),
        ResetFrame(1, NGHTTP2_REFUSED_STREAM),
        ResetFrame(1, NGHTTP2_NO_ERROR)}) {
    Connect();
    Submit();
    EXPECT_FALSE(Feed(frame));
    EXPECT_EQ(recorder_.Text(1), kNotSent);
    EXPECT_THAT(codec_->error().message, HasSubstr("not sent"));
    EXPECT_FALSE(codec_->CanSubmit());
  }
}

TEST_F(Http2Test, ABrokenConnectionSaysGoodbyeAndFailsAll) {
  Connect();
  const StreamId sent = Submit();
  Exchange();
  const StreamId unsent = Submit();
  EXPECT_FALSE(Feed(DataFrame(0, "x")));
  EXPECT_EQ(recorder_.Text(sent), kSentUnknown);
  EXPECT_EQ(recorder_.Text(unsent), kNotSent);
  EXPECT_THAT(recorder_.streams[sent].message, HasSubstr("stream_id == 0"));
  EXPECT_FALSE(Feed(Frame(NGHTTP2_PING, 0, 0, "12345678")));
  EXPECT_TRUE(peer_->Feed(Flush(codec_.get())));
  EXPECT_EQ(peer_->goaway_code, NGHTTP2_PROTOCOL_ERROR);
  codec_->FeedEof();
  EXPECT_EQ(recorder_.failed, 2);
}

TEST_F(Http2Test, OurOwnRefusalsSayGoodbyeToo) {
  Connect();
  Submit();
  Exchange();
  EXPECT_FALSE(Feed(Frame(NGHTTP2_PUSH_PROMISE, kEndHeaders, 1,
                          Bytes(2, 4) + Block({{":method", "GET"}}))));
  EXPECT_THAT(codec_->error().message, HasSubstr("pushed"));
  EXPECT_TRUE(peer_->Feed(Flush(codec_.get())));
  EXPECT_EQ(peer_->goaway_code, NGHTTP2_PROTOCOL_ERROR);
}

TEST_F(Http2Test, PushIsRefusedBeforeOurSettingsAreAcknowledgedToo) {
  codec_ = MakeHttp2Codec(&recorder_, &recorder_, "https");
  EXPECT_TRUE(Feed(SettingsFrame()));
  Submit();
  Flush(codec_.get());
  EXPECT_FALSE(Feed(Frame(NGHTTP2_PUSH_PROMISE, kEndHeaders, 1,
                          Bytes(2, 4) + Block({{":method", "GET"}}))));
  EXPECT_EQ(recorder_.Text(1), "error protocol SENT_UNKNOWN");
}

TEST_F(Http2Test, ACancelledStreamIsResetAndNothingElseHappens) {
  Connect({.consumes = false});
  const StreamId cancelled = Submit("POST", std::string(100000, 'x'));
  const StreamId other = Submit();
  Exchange();
  EXPECT_FALSE(peer_->requests[cancelled].ended);
  codec_->Cancel(cancelled);
  EXPECT_EQ(codec_->open_streams(), 1u);
  // What it says before it knows is passed over.
  ASSERT_TRUE(Feed(HeadersFrame(cancelled, {{":status", "200"}}) +
                   DataFrame(cancelled, "x") + DataFrame(cancelled, "y", 1)));
  Exchange();
  EXPECT_TRUE(peer_->requests[cancelled].reset);
  EXPECT_EQ(peer_->requests[cancelled].code, NGHTTP2_CANCEL);
  EXPECT_EQ(recorder_.Text(cancelled), "");
  peer_->Answer(other, {{":status", "200"}}, "ok");
  Exchange();
  EXPECT_EQ(recorder_.Text(other), kAnswered);
  EXPECT_EQ(peer_->goaway_code, 0u);
  codec_->Cancel(cancelled);
  codec_->Cancel(other);
  codec_->Cancel(0);
  EXPECT_FALSE(codec_->WantsWrite());
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http2Test, AStreamThatIsUsedWhenItIsOverIsResetOnce) {
  for (const bool by_reset : {false, true}) {
    Connect();
    const StreamId over = Submit();
    const StreamId other = Submit();
    Exchange();
    ASSERT_TRUE(
        Feed(by_reset ? Frame(NGHTTP2_RST_STREAM, kNoFlag, over, Bytes(8, 4))
                      : HeadersFrame(over, {{":status", "200"}}, kEndStream)));
    const std::string before = recorder_.Text(over);
    ASSERT_TRUE(Feed(DataFrame(over, "x") + DataFrame(over, "y", kEndStream) +
                     HeadersFrame(over, {{"a", "b"}}, kEndStream)));
    std::string out;
    codec_->TakeOutput(&out);
    codec_->OnWritten(out.size());
    const std::string reset = Frame(NGHTTP2_RST_STREAM, kNoFlag, over,
                                    Bytes(NGHTTP2_STREAM_CLOSED, 4));
    const size_t found = out.find(reset);
    ASSERT_NE(found, std::string::npos);
    EXPECT_EQ(out.find(reset, found + 1), std::string::npos);
    EXPECT_EQ(recorder_.Text(over), before);
    ASSERT_TRUE(peer_->Feed(out));
    peer_->Answer(other, {{":status", "200"}}, "ok");
    Exchange();
    EXPECT_EQ(recorder_.Text(other), kAnswered);
  }
}

TEST_F(Http2Test, CancelledDownloadsLeaveTheWindowOpen) {
  Connect();
  const std::string body = Pattern(900 << 10);
  // More than the connection's window in all.
  for (int i = 0; i < 50; ++i) {
    const StreamId id = Submit();
    Exchange();
    recorder_.on_body = [&](StreamId stream, std::string_view) {
      codec_->Cancel(stream);
    };
    peer_->Answer(id, {{":status", "200"}}, body);
    Exchange();
    EXPECT_TRUE(peer_->requests[id].reset);
    EXPECT_FALSE(recorder_.streams[id].over());
  }
  recorder_.on_body = nullptr;
  const StreamId id = Submit();
  Exchange();
  peer_->Answer(id, {{":status", "200"}}, body);
  Exchange();
  EXPECT_TRUE(recorder_.streams[id].body == body);
}

TEST_F(Http2Test, WhatIsLeftOfAFrameWhenItsStreamIsCancelledIsConsumed) {
  Connect({}, {.connection_window_bytes = 65535});
  for (int i = 0; i < 50; ++i) {
    const StreamId id = Submit();
    Exchange();
    const std::string frame = DataFrame(id, std::string(16000, 'x'));
    ASSERT_TRUE(
        Feed(HeadersFrame(id, {{":status", "200"}}) + frame.substr(0, 100)));
    codec_->Cancel(id);
    ASSERT_TRUE(Feed(frame.substr(100))) << codec_->error().message;
    EXPECT_EQ(recorder_.streams[id].body.size(), 91u);
  }
}

TEST_F(Http2Test, AHandlerMayCancelFromInsideAnyEvent) {
  for (const int when : {0, 1, 2, 3}) {
    Connect();
    const StreamId id = Submit();
    const StreamId other = Submit();
    Exchange();
    const auto cancel = [&](StreamId) {
      codec_->Cancel(id);
      codec_->Cancel(other);
    };
    if (when == 0) recorder_.on_head = cancel;
    if (when == 1) {
      recorder_.on_body = [&](StreamId, std::string_view) { cancel(0); };
    }
    if (when == 2) recorder_.on_complete = cancel;
    if (when == 3) {
      recorder_.on_error = cancel;
      codec_->FeedEof();
    } else {
      peer_->Answer(id, {{":status", "200"}}, "ok", {{"t", "x"}});
      Exchange();
    }
    EXPECT_EQ(codec_->open_streams(), 0u);
    EXPECT_EQ(recorder_.completed, when == 2 ? 1 : 0);
    EXPECT_EQ(recorder_.failed, when == 3 ? 1 : 0);
    EXPECT_EQ(codec_->CanSubmit(), when != 3);
  }
}

TEST_F(Http2Test, AnEarlyAnswerStopsTheRequestAndKeepsTheConnection) {
  Connect();
  const StreamId id = Submit("POST", std::string(1 << 20, 'x'));
  peer_->on_request = [this](StreamId stream) {
    peer_->Answer(stream, {{":status", "413"}}, "no");
  };
  ASSERT_TRUE(peer_->Feed(Flush(codec_.get()).substr(0, 50000)));
  ASSERT_TRUE(Feed(peer_->TakeOutput()));
  EXPECT_EQ(recorder_.Text(id), "413 body=[no] complete");
  EXPECT_THAT(Flush(codec_.get()), HasSubstr(ResetFrame(id, NGHTTP2_CANCEL)));
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http2Test, ARefusedStreamMayBeTriedAgain) {
  Connect();
  const StreamId id = Submit("POST", "hello");
  Exchange();
  peer_->Reset(id, NGHTTP2_REFUSED_STREAM);
  Exchange();
  EXPECT_EQ(recorder_.Text(id), kRefused);
  AnswerAll();
  const StreamId again = Submit("POST", "hello");
  Exchange();
  EXPECT_EQ(recorder_.Text(again), kAnswered);
}

TEST_F(Http2Test, APeerThatOverrunsAWindowLosesTheStream) {
  Connect({}, {.stream_window_bytes = 1000});
  const StreamId id = codec_->OpenStream({.authority = "h"}, /*end=*/true);
  Exchange();
  ASSERT_TRUE(Feed(HeadersFrame(id, {{":status", "200"}})));
  ASSERT_TRUE(Feed(DataFrame(id, std::string(1000, 'x'))));
  EXPECT_FALSE(recorder_.streams[id].over());
  ASSERT_TRUE(Feed(DataFrame(id, "x")));
  EXPECT_EQ(recorder_.streams[id].error, CallError::kProtocol);
  EXPECT_THAT(recorder_.streams[id].message, HasSubstr("flow control"));
  EXPECT_TRUE(codec_->CanSubmit());
}

// Signs of life.

TEST_F(Http2Test, APingIsAnswered) {
  Connect();
  codec_->Ping();
  EXPECT_TRUE(codec_->WantsWrite());
  codec_->Ping();  // The same one.
  Exchange();
  EXPECT_EQ(peer_->pings, 1);
  EXPECT_THAT(recorder_.connection, ElementsAre("ping ack"));
  codec_->Ping();
  Exchange();
  EXPECT_EQ(peer_->pings, 2);
}

TEST_F(Http2Test, AnAnswerToAnotherPingIsNone) {
  Connect();
  ASSERT_TRUE(Feed(Frame(NGHTTP2_PING, kAck, 0, "12345678")));
  codec_->Ping();
  ASSERT_TRUE(Feed(Frame(NGHTTP2_PING, kAck, 0, "12345678")));
  EXPECT_TRUE(recorder_.connection.empty());
  Exchange();
  EXPECT_THAT(recorder_.connection, ElementsAre("ping ack"));
}

TEST_F(Http2Test, AnIdleConnectionEndsWithoutAWord) {
  Connect();
  codec_->FeedEof();
  EXPECT_EQ(recorder_.All(), "");
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_FALSE(codec_->error().unsolicited);
  codec_->Ping();
  EXPECT_FALSE(codec_->WantsWrite());
}

}  // namespace
}  // namespace hotline::upstream
