// Feeds an HTTP/1.1 codec with bytes cut into pieces, and writes down what it
// says. The unit tests and the fuzzer share it.
#ifndef HOTLINE_TESTS_UPSTREAM_CODEC_HTTP1_DRIVER_H_
#define HOTLINE_TESTS_UPSTREAM_CODEC_HTTP1_DRIVER_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "upstream/codec/http1.h"

namespace hotline::upstream {

inline const char* NameOf(CallError error) {
  switch (error) {
    case CallError::kNone:
      return "none";
    case CallError::kConnectionGone:
      return "gone";
    case CallError::kReset:
      return "reset";
    case CallError::kTlsRefused:
      return "refused by TLS";
    case CallError::kTimeout:
      return "timeout";
    case CallError::kCancelled:
      return "cancelled";
    case CallError::kProtocol:
      return "protocol";
    case CallError::kNoRoom:
      return "no room";
    case CallError::kResponseTooLarge:
      return "too large";
    case CallError::kBadRequest:
      return "bad request";
  }
  return "?";
}

// Everything a codec tells; pieces of a body are joined, because how it is cut
// depends on how the bytes came.
class Recorder final : public CodecEvents {
 public:
  void OnHead(StreamId, int status, std::vector<Header> headers) override {
    ++heads;
    this->status = status;
    this->headers = std::move(headers);
  }
  void OnBody(StreamId, std::string_view piece) override {
    if (heads == 0 || over()) ++disorders;
    body.append(piece);
    if (on_body) on_body();
  }
  void OnTrailers(StreamId, std::vector<Header> trailers) override {
    if (heads == 0 || over()) ++disorders;
    this->trailers = std::move(trailers);
  }
  void OnComplete(StreamId) override {
    if (heads == 0 || over()) ++disorders;
    ++completed;
    if (on_complete) on_complete();
  }
  void OnStreamError(StreamId, CallError error, Verdict verdict,
                     std::string message) override {
    if (over()) ++disorders;
    ++failed;
    this->error = error;
    this->verdict = verdict;
    this->message = std::move(message);
  }
  void OnSendable(StreamId) override { ++sendable; }

  bool over() const { return completed + failed > 0; }

  // For people, and for comparing.
  std::string Text() const {
    std::string text;
    if (heads > 0) text += std::to_string(status);
    for (const Header& h : headers) text += " " + h.name + "=[" + h.value + "]";
    if (heads > 0) text += " body=[" + body + "]";
    for (const Header& h : trailers) {
      text += " trailer " + h.name + "=[" + h.value + "]";
    }
    if (completed > 0) text += " complete";
    if (failed > 0) {
      text += (heads > 0 ? " error " : "error ");
      text.append(NameOf(error)).append(" ").append(ToString(verdict));
    }
    return text;
  }

  int heads = 0;
  int completed = 0;
  int failed = 0;
  int sendable = 0;
  int disorders = 0;  // Events that must not come when they came.
  int status = 0;
  std::vector<Header> headers;
  std::string body;
  std::vector<Header> trailers;
  CallError error = CallError::kNone;
  Verdict verdict = Verdict::kComplete;
  std::string message;
  std::function<void()> on_body;
  std::function<void()> on_complete;
};

struct Exchange {
  std::string_view method = "GET";
  std::string_view answer;
  bool eof = false;  // After the answer.
  Http1Limits limits;
  // Whether to make another exchange afterwards where the codec is fit for one.
  bool twice = false;
};

struct Outcome {
  std::string events;
  std::string message;  // Of the stream's error.
  int disorders = 0;
  std::string body;
  bool open = false;      // Feed still says yes.
  bool reusable = false;  // CanSubmit.
  bool unsolicited = false;
  std::string second;  // Events of the second exchange.

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// A plain exchange on a codec that has had one.
inline std::string RunSecond(Codec* codec, Recorder* recorder) {
  *recorder = Recorder();
  codec->Submit({.authority = "h"});
  std::string out;
  codec->TakeOutput(&out);
  codec->OnWritten(out.size());
  codec->Feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  return recorder->Text();
}

// One request, written whole, and its answer in pieces: `cut(left)` says how
// long the next one is (1 to left).
inline Outcome Run(const Exchange& exchange,
                   const std::function<size_t(size_t left)>& cut) {
  Recorder recorder;
  const auto codec = MakeHttp1Codec(&recorder, exchange.limits);
  Request request;
  request.method = exchange.method;
  request.authority = "h";
  codec->Submit(request);
  std::string out;
  codec->TakeOutput(&out);
  codec->OnWritten(out.size());

  Outcome outcome;
  outcome.open = true;
  std::string_view left = exchange.answer;
  while (!left.empty() && outcome.open) {
    const size_t size = cut(left.size());
    // A copy of its own: reading past a piece shows under AddressSanitizer.
    const std::string piece(left.substr(0, size));
    outcome.open = codec->Feed(piece);
    left.remove_prefix(size);
  }
  if (exchange.eof && outcome.open) {
    codec->FeedEof();
    outcome.open = false;
  }
  outcome.events = recorder.Text();
  outcome.message = recorder.message;
  outcome.disorders = recorder.disorders;
  outcome.body = recorder.body;
  outcome.reusable = codec->CanSubmit();
  outcome.unsolicited = codec->error().unsolicited;
  if (exchange.twice && outcome.reusable) {
    outcome.second = RunSecond(codec.get(), &recorder);
  }
  return outcome;
}

inline Outcome RunWhole(const Exchange& exchange) {
  return Run(exchange, [](size_t left) { return left; });
}

inline Outcome RunByteByByte(const Exchange& exchange) {
  return Run(exchange, [](size_t) { return size_t{1}; });
}

}  // namespace hotline::upstream

#endif  // HOTLINE_TESTS_UPSTREAM_CODEC_HTTP1_DRIVER_H_
