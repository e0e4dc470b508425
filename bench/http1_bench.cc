// What the HTTP/1.1 codec costs per call, without a socket: a request is
// submitted and taken, its answer fed in one piece, and the events thrown away.
// One thread; every iteration is one whole exchange on one connection. Judge by
// the ratio of one row to another, or of one version to another in one run.
#include <string>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"
#include "upstream/codec/http1.h"

namespace hotline::upstream {
namespace {

class Ignore final : public CodecEvents {
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

void Exchange(benchmark::State& state, const Request& request,
              const std::string& answer) {
  Ignore events;
  const auto codec = MakeHttp1Codec(&events);
  std::string out;
  for (auto _ : state) {
    codec->Submit(request);
    out.clear();
    codec->TakeOutput(&out);
    codec->OnWritten(out.size());
    if (!codec->Feed(answer)) break;
  }
  if (events.completed != static_cast<int64_t>(state.iterations())) {
    state.SkipWithError("an answer was not taken");
  }
  state.SetBytesProcessed(state.iterations() * answer.size());
}

const HeaderView kHeaders[] = {{"accept", "*/*"}, {"user-agent", "bench/1.0"}};
const Request kGet = {.authority = "backend.example:8443",
                      .path = "/v1/items?id=42",
                      .headers = kHeaders};

std::string Answer(const std::string& headers, const std::string& body) {
  return "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n"
         "Date: Tue, 21 May 2024 10:00:00 GMT\r\n"
         "Content-Type: application/json\r\nConnection: keep-alive\r\n" +
         headers + "\r\n" + body;
}

std::string WithLength(const std::string& headers, const std::string& body) {
  return Answer(
      "Content-Length: " + std::to_string(body.size()) + "\r\n" + headers,
      body);
}

void BM_SmallGet(benchmark::State& state) {
  Exchange(state, kGet, WithLength("", "{\"ok\":true,\"n\":1}"));
}
BENCHMARK(BM_SmallGet);

// As many headers as an answer has that came through a few proxies.
void BM_ManyHeaders(benchmark::State& state) {
  std::string headers;
  for (int i = 0; i < state.range(0); ++i) {
    headers += "X-Some-Header-" + std::to_string(i) +
               ": a value of some forty characters, or so\r\n";
  }
  Exchange(state, kGet, WithLength(headers, "{}"));
}
BENCHMARK(BM_ManyHeaders)->Arg(5)->Arg(20)->Arg(80);

void BM_SmallChunked(benchmark::State& state) {
  Exchange(state, kGet,
           Answer("Transfer-Encoding: chunked\r\n",
                  "11\r\n{\"ok\":true,\"n\":1}\r\n0\r\n\r\n"));
}
BENCHMARK(BM_SmallChunked);

void BM_PostWithBody(benchmark::State& state) {
  const std::string body(state.range(0), 'x');
  Request request = kGet;
  request.method = "POST";
  request.body = body;
  Exchange(state, request, WithLength("", body));
}
BENCHMARK(BM_PostWithBody)->Arg(1 << 10)->Arg(64 << 10)->Arg(1 << 20);

}  // namespace
}  // namespace hotline::upstream

BENCHMARK_MAIN();
