#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "tests/fuzz/targets.h"
#include "tests/upstream/codec/http1_driver.h"

namespace hotline::fuzz {
namespace {

using upstream::Exchange;
using upstream::Outcome;

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = std::tolower(static_cast<unsigned char>(c));
  return lower;
}

// A second opinion on where an answer ends, by the shortest code that gets
// answers right that are beyond doubt. It knows nothing of pieces or limits.
class Reference {
 public:
  Reference(std::string_view bytes, bool to_head) : bytes_(bytes) {
    std::string head;
    do {
      const size_t end = bytes_.find("\r\n\r\n", at_);
      if (end == std::string_view::npos) return;
      head = Lower(bytes_.substr(at_, end + 2 - at_));
      at_ = end + 4;
    } while (head.compare(9, 1, "1") == 0);
    plain_ = IsPlain(head);
    const std::string status = head.substr(9, 3);
    const std::optional<uint64_t> length = LengthIn(head);
    if (to_head || status == "204" || status == "304") {
      whole_ = true;
    } else if (head.find("\r\ntransfer-encoding:") != std::string::npos) {
      whole_ = TakeChunks();
    } else if (length.has_value()) {
      declared_ = length;
      body_ = bytes_.substr(std::min(at_, bytes_.size()), *length);
      at_ += body_.size();
      whole_ = body_.size() == *length;
    }
  }

  // Whether the answer's end is in the bytes, and known without the
  // connection's.
  bool whole() const { return whole_; }
  size_t size() const { return at_; }
  // Whether its head leaves no doubt about the framing.
  bool plain() const { return plain_; }
  const std::string& body() const { return body_; }
  std::optional<uint64_t> declared() const { return declared_; }

 private:
  static std::optional<uint64_t> LengthIn(const std::string& head) {
    constexpr std::string_view kName = "\r\ncontent-length:";
    size_t at = head.find(kName);
    if (at == std::string::npos) return std::nullopt;
    at = head.find_first_not_of(" \t", at + kName.size());
    uint64_t length = 0;
    std::from_chars(head.data() + at, head.data() + head.size(), length);
    return length;
  }

  static bool IsPlain(const std::string& head) {
    int lengths = 0;
    int codings = 0;
    for (size_t at = 0; at < head.size();) {
      const size_t lf = head.find('\n', at);
      const std::string line = head.substr(at, lf - at);
      if (line.empty() || line.back() != '\r') return false;
      if (at > 0 && line.find(':') == std::string::npos) return false;
      if (line.find_first_of(" \t") < line.find(':') && at > 0) return false;
      if (line.starts_with("content-length:")) ++lengths;
      if (line.starts_with("transfer-encoding:")) {
        ++codings;
        const size_t value = line.find_first_not_of(" \t", 18);
        if (line.compare(value, 7, "chunked") != 0) return false;
        if (line.find_first_not_of(" \t\r", value + 7) != std::string::npos) {
          return false;
        }
      }
      at = lf + 1;
    }
    return lengths + codings <= 1;
  }

  bool TakeChunks() {
    for (;;) {
      const size_t eol = bytes_.find("\r\n", at_);
      if (eol == std::string_view::npos) return false;
      uint64_t size = 0;
      std::from_chars(bytes_.data() + at_, bytes_.data() + eol, size, 16);
      at_ = eol + 2;
      if (size == 0) break;
      if (bytes_.size() - at_ < size) return false;
      body_.append(bytes_.substr(at_, size));
      at_ += size + 2;
      if (at_ > bytes_.size()) return false;
    }
    for (;;) {
      const size_t eol = bytes_.find("\r\n", at_);
      if (eol == std::string_view::npos) return false;
      const bool last = eol == at_;
      at_ = eol + 2;
      if (last) return true;
    }
  }

  const std::string_view bytes_;
  size_t at_ = 0;
  bool plain_ = false;
  bool whole_ = false;
  std::string body_;
  std::optional<uint64_t> declared_;
};

void CheckAgainstReference(const Exchange& exchange, const Outcome& outcome) {
  const bool to_head = exchange.method == "HEAD";
  const bool complete = outcome.events.find(" complete") != std::string::npos;
  if (to_head) HOTLINE_PROMISE(outcome.body.empty());
  // The status line of an answer was taken: the reference can read its head.
  if (outcome.events.empty() || outcome.events[0] == 'e') return;
  const Reference reference(exchange.answer, to_head);
  if (reference.declared().has_value()) {
    HOTLINE_PROMISE(outcome.body.size() <= *reference.declared());
  }
  if (outcome.reusable) {
    HOTLINE_PROMISE(complete);
    HOTLINE_PROMISE(reference.plain());
    HOTLINE_PROMISE(reference.whole());
    HOTLINE_PROMISE(reference.size() == exchange.answer.size());
    HOTLINE_PROMISE(reference.body() == outcome.body);
    HOTLINE_PROMISE(outcome.second ==
                    "200 content-length=[2] body=[ok] complete");
  }
  if (outcome.unsolicited) {
    HOTLINE_PROMISE(complete);
    HOTLINE_PROMISE(reference.size() < exchange.answer.size());
  }
}

}  // namespace

void FuzzHttp1(std::string_view input) {
  if (input.size() < 2) return;
  const unsigned flags = static_cast<unsigned char>(input[0]);
  std::minstd_rand random(static_cast<unsigned char>(input[1]) + 1);
  Exchange exchange;
  exchange.method = flags & 1 ? "HEAD" : "GET";
  exchange.eof = flags & 2;
  if (flags & 4) exchange.limits.max_header_bytes = 100;
  exchange.answer = input.substr(2);
  exchange.twice = true;

  const Outcome whole = RunWhole(exchange);
  HOTLINE_PROMISE(whole.disorders == 0);
  HOTLINE_PROMISE(whole.open || !whole.reusable);
  HOTLINE_PROMISE(RunByteByByte(exchange) == whole);
  const size_t most = 1 + random() % 64;
  HOTLINE_PROMISE(Run(exchange, [&](size_t left) {
                    return 1 + random() % std::min(left, most);
                  }) == whole);
  CheckAgainstReference(exchange, whole);
}

}  // namespace hotline::fuzz
