#include <algorithm>
#include <iostream>
#include <random>
#include <string>
#include <string_view>

#include "tests/fuzz/targets.h"
#include "tests/upstream/codec/http2_driver.h"

namespace hotline::fuzz {
namespace {

using upstream::Http2Exchange;
using upstream::Http2Outcome;

// Stream 1's body by the shortest code that follows frames; good for answers
// that are beyond doubt.
std::string BodyIn(std::string_view bytes) {
  constexpr size_t kHead = 9;
  constexpr unsigned char kData = 0, kHeaders = 1, kEnd = 1, kPadded = 8;
  std::string body;
  while (bytes.size() >= kHead) {
    const auto at = [&](size_t i) {
      return static_cast<unsigned char>(bytes[i]);
    };
    const size_t size = at(0) << 16 | at(1) << 8 | at(2);
    const bool ours = (at(5) & 0x7f) == 0 && at(6) == 0 && at(7) == 0 &&
                      at(8) == 1 && at(3) <= kHeaders;
    if (ours && at(3) == kData) {
      std::string_view payload = bytes.substr(kHead, size);
      if ((at(4) & kPadded) != 0 && !payload.empty()) {
        const size_t padding = static_cast<unsigned char>(payload[0]);
        payload.remove_prefix(1);
        payload.remove_suffix(std::min(padding, payload.size()));
      }
      body.append(payload);
    }
    if (ours && (at(4) & kEnd) != 0) return body;
    bytes.remove_prefix(std::min(kHead + size, bytes.size()));
  }
  return body;
}

bool Same(const Http2Outcome& outcome, const Http2Outcome& whole) {
  if (outcome == whole) return true;
  PrintTo(outcome, &std::cerr);
  std::cerr << "\n  but in one piece:\n";
  PrintTo(whole, &std::cerr);
  std::cerr << "\n";
  return false;
}

}  // namespace

void FuzzHttp2(std::string_view input) {
  if (input.size() < 2) return;
  const unsigned flags = static_cast<unsigned char>(input[0]);
  std::minstd_rand random(static_cast<unsigned char>(input[1]) + 1);
  Http2Exchange exchange;
  exchange.method = flags & 1 ? "HEAD" : "GET";
  exchange.eof = flags & 2;
  if (flags & 4) {
    exchange.limits = {.max_header_bytes = 200,
                       .max_headers = 4,
                       .stream_window_bytes = 1000,
                       .connection_window_bytes = 65535,
                       .max_useless_frames = 20};
  }
  exchange.three = flags & 8;
  exchange.answer = input.substr(2);
  exchange.comparable = true;

  const Http2Outcome whole = RunHttp2Whole(exchange);
  const size_t requests = exchange.three ? 3 : 1;
  HOTLINE_PROMISE(whole.disorders == 0);
  HOTLINE_PROMISE(whole.streams + whole.ends == requests);
  HOTLINE_PROMISE(whole.open || whole.streams == 0);
  HOTLINE_PROMISE(whole.open || !whole.reusable);
  HOTLINE_PROMISE(Same(RunHttp2ByteByByte(exchange), whole));
  const size_t most = 1 + random() % 64;
  const auto cut = [&](size_t left) {
    return 1 + random() % std::min(left, most);
  };
  HOTLINE_PROMISE(Same(RunHttp2(exchange, cut), whole));
  if (whole.first_body.has_value()) {
    HOTLINE_PROMISE(*whole.first_body == BodyIn(exchange.answer));
  }
}

}  // namespace hotline::fuzz
