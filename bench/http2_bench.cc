// What the HTTP/2 codec costs per call, without a socket: requests are
// submitted and taken, their answers fed, and the events thrown away. One
// thread; the argument says how many streams share each output and each input.
// Judge by the ratio of one row to another, or to http1_bench's in one run.
#include <string>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"
#include "upstream/codec/http2.h"

namespace hotline::upstream {
namespace {

class Ignore final : public CodecEvents, public Http2Events {
 public:
  void OnHead(StreamId, int, std::vector<Header> headers) override {
    benchmark::DoNotOptimize(headers.data());
  }
  void OnBody(StreamId, std::string_view piece) override {
    benchmark::DoNotOptimize(piece.data());
  }
  void OnTrailers(StreamId, std::vector<Header>) override {}
  void OnComplete(StreamId) override { ++completed; }
  void OnStreamError(StreamId, CallError, Verdict, std::string) override {}

  int64_t completed = 0;
};

// An indexed :status 200 and three literal fields, as a server would send once
// its table is warm, and a body.
std::string Answer(size_t body_bytes) {
  const std::string block = std::string("\x88") + '\0' +
                            "\x04"
                            "date" +
                            "\x1d"
                            "Tue, 21 May 2024 10:00:00 GMT" +
                            '\0' +
                            "\x06"
                            "server" +
                            "\x05"
                            "nginx" +
                            '\0' +
                            "\x0c"
                            "content-type" +
                            "\x10"
                            "application/json";
  std::string frames;
  const auto frame = [&](int type, int flags, const std::string& payload) {
    frames += static_cast<char>(payload.size() >> 16);
    frames += static_cast<char>(payload.size() >> 8);
    frames += static_cast<char>(payload.size());
    frames += static_cast<char>(type);
    frames += static_cast<char>(flags);
    frames.append(4, '\0');
    frames += payload;
  };
  frame(1, 4, block);
  for (size_t left = body_bytes;;) {
    const size_t size = std::min<size_t>(left, 16384);
    left -= size;
    frame(0, left == 0 ? 1 : 0, std::string(size, 'x'));
    if (left == 0) return frames;
  }
}

// Puts the stream's id into all frames.
void Address(std::string* frames, size_t from, StreamId id) {
  for (size_t at = from; at < frames->size();) {
    const auto byte = [&](size_t i) {
      return static_cast<unsigned char>((*frames)[at + i]);
    };
    for (int i = 0; i < 4; ++i) {
      (*frames)[at + 5 + i] = static_cast<char>(id >> (8 * (3 - i)));
    }
    at += 9 + (byte(0) << 16 | byte(1) << 8 | byte(2));
  }
}

void Exchange(benchmark::State& state, const Request& request,
              size_t body_bytes) {
  Ignore events;
  const auto codec = MakeHttp2Codec(&events, &events, "https");
  // SETTINGS with windows of 2^31 - 1, the same for the connection, and an
  // acknowledgement of ours.
  codec->Feed(
      {"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff"
       "\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0"
       "\0\0\0\x04\x01\0\0\0\0",
       15 + 13 + 9});
  const std::string answer = Answer(body_bytes);
  const int streams = static_cast<int>(state.range(0));
  std::string out;
  std::string in;
  for (auto _ : state) {
    in.clear();
    for (int i = 0; i < streams; ++i) {
      const size_t from = in.size();
      in += answer;
      Address(&in, from, codec->Submit(request));
    }
    while (codec->WantsWrite()) {
      out.clear();
      codec->TakeOutput(&out);
      codec->OnWritten(out.size());
    }
    if (!codec->Feed(in)) break;
  }
  if (events.completed != static_cast<int64_t>(state.iterations()) * streams) {
    state.SkipWithError(codec->error().message.c_str());
  }
  state.SetItemsProcessed(state.iterations() * streams);
  state.SetBytesProcessed(state.iterations() * streams * answer.size());
}

const HeaderView kHeaders[] = {{"accept", "*/*"}, {"user-agent", "bench/1.0"}};
const Request kGet = {.authority = "backend.example:8443",
                      .path = "/v1/items?id=42",
                      .headers = kHeaders};

void BM_SmallGet(benchmark::State& state) { Exchange(state, kGet, 17); }
BENCHMARK(BM_SmallGet)->Arg(1)->Arg(8)->Arg(64);

void BM_LargeAnswer(benchmark::State& state) { Exchange(state, kGet, 1 << 20); }
BENCHMARK(BM_LargeAnswer)->Arg(1)->Arg(8);

void BM_PostWithBody(benchmark::State& state) {
  const std::string body(64 << 10, 'x');
  Request request = kGet;
  request.method = "POST";
  request.body = body;
  Exchange(state, request, 17);
}
BENCHMARK(BM_PostWithBody)->Arg(1)->Arg(8);

}  // namespace
}  // namespace hotline::upstream

BENCHMARK_MAIN();
