// What checking a caller's URL and headers costs, per call. One thread, no
// messages: the parts of server/broker/validate that every Execute runs.
#include "base/url.h"
#include "benchmark/benchmark.h"
#include "server/broker/http_head.h"

namespace hotline::server {
namespace {

void Parse(benchmark::State& state, std::string_view text) {
  for (auto _ : state) {
    ParsedUrl url;
    if (ParseUrl(text, &url).has_value()) state.SkipWithError("refused");
    benchmark::DoNotOptimize(url);
  }
}

BENCHMARK_CAPTURE(Parse, typical,
                  "https://api.example.com/v1/items/42?fields=name,price");
BENCHMARK_CAPTURE(Parse, with_port, "https://backend.internal.example:8443/x");
BENCHMARK_CAPTURE(Parse, ipv4, "http://192.0.2.17:8080/");
BENCHMARK_CAPTURE(Parse, ipv6, "https://[2001:db8::17]:8443/");

void BM_ParseLongPath(benchmark::State& state) {
  const std::string text =
      "https://example.com/" + std::string(state.range(0), 'a');
  Parse(state, text);
}
BENCHMARK(BM_ParseLongPath)->Arg(1 << 10)->Arg(8 << 10);

void BM_CheckHeader(benchmark::State& state) {
  ParsedUrl url;
  if (ParseUrl("https://example.com", &url).has_value()) return;
  const std::string_view name = "x-request-id";
  const std::string_view value = "0af7651916cd43dd8448eb211c80319c";
  for (auto _ : state) {
    if (CheckHeader(name, value, url).has_value()) {
      state.SkipWithError("refused");
    }
  }
}
BENCHMARK(BM_CheckHeader);

}  // namespace
}  // namespace hotline::server

BENCHMARK_MAIN();
