#include "upstream/proxy.h"

#include "absl/strings/str_cat.h"
#include "upstream/target_parts.h"

namespace hotline::upstream {

std::optional<ProxyAddress> ProxyAddress::Parse(std::string_view text) {
  const auto parts = TargetParts::Parse(text);
  if (!parts || parts->tls || !text.starts_with("http://")) return std::nullopt;
  return ProxyAddress{parts->host, parts->port};
}

std::string ConnectRequest(std::string_view authority) {
  const absl::string_view where(authority.data(), authority.size());
  return absl::StrCat("CONNECT ", where, " HTTP/1.1\r\nHost: ", where,
                      "\r\nUser-Agent: hotline\r\n\r\n");
}

ProxyAnswer::Verdict ProxyAnswer::Feed(std::string_view bytes) {
  head_.append(bytes);
  const size_t end = head_.find("\r\n\r\n");
  if (end == std::string::npos) {
    return head_.size() < kMostBytes ? Verdict::kMore : Verdict::kBroken;
  }
  // "HTTP/1.1 200 …": the version's digit and the code's.
  const std::string_view head = head_;
  const auto digit = [head](size_t at) {
    return head[at] >= '0' && head[at] <= '9';
  };
  if (end < 12 || !head.starts_with("HTTP/1.") || !digit(7) || head[8] != ' ' ||
      !digit(9) || !digit(10) || !digit(11) ||
      (head[12] != ' ' && head[12] != '\r')) {
    return Verdict::kBroken;
  }
  status_ = (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
  if (status_ < 200) {
    // A word in between; the answer follows.
    const std::string rest = head_.substr(end + 4);
    head_.clear();
    return status_ < 100 ? Verdict::kBroken : Feed(rest);
  }
  if (status_ > 299) return Verdict::kRefused;
  // Nobody spoke to the target yet: it has nothing to answer.
  return head_.size() == end + 4 ? Verdict::kOpen : Verdict::kBroken;
}

}  // namespace hotline::upstream
