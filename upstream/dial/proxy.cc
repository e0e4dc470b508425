#include "upstream/dial/proxy.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "upstream/dial/target_parts.h"

namespace hotline::upstream {

std::optional<ProxyAddress> ProxyAddress::Parse(std::string_view text) {
  const auto parts = TargetParts::Parse(text);
  if (!parts || parts->tls || !text.starts_with("http://")) return std::nullopt;
  return ProxyAddress{parts->lookup, parts->port};
}

std::string ConnectRequest(std::string_view authority) {
  const absl::string_view where(authority.data(), authority.size());
  return absl::StrCat("CONNECT ", where, " HTTP/1.1\r\nHost: ", where,
                      "\r\nUser-Agent: hotline\r\n\r\n");
}

namespace {

// The status of "HTTP/1.1 200 …"; 0: `head` is not an answer.
int StatusOf(std::string_view head) {
  const auto digit = [head](size_t at) {
    return head[at] >= '0' && head[at] <= '9';
  };
  if (head.size() < 12 || !head.starts_with("HTTP/1.") || !digit(7) ||
      head[8] != ' ' || !digit(9) || !digit(10) || !digit(11)) {
    return 0;
  }
  const char after = head.size() == 12 ? '\r' : head[12];
  if (after != ' ' && after != '\r') return 0;
  return (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
}

}  // namespace

ProxyAnswer::Verdict ProxyAnswer::Feed(std::string_view bytes) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  text_.append(bytes);
  for (;;) {
    const size_t end = text_.find(kEnd, read_);
    if (std::min(end, text_.size()) > kMostBytes) return Verdict::kBroken;
    if (end == std::string::npos) return Verdict::kMore;
    status_ = StatusOf(std::string_view(text_).substr(read_, end - read_));
    read_ = end + kEnd.size();
    if (status_ < 100) return Verdict::kBroken;
    // An interim answer (below 200): the final one follows.
    if (status_ >= 200) {
      return status_ > 299 ? Verdict::kRefused : Verdict::kOpen;
    }
  }
}

}  // namespace hotline::upstream
