#include <arpa/inet.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/url.h"
#include "tests/fuzz/targets.h"

namespace hotline::fuzz {
namespace {

bool IsVisible(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c > ' ' && c < '\x7f'; });
}

std::string Scheme(const ParsedTarget& target) {
  if (target.raw) return target.tls ? "tls://" : "tcp://";
  return target.tls ? "https://" : "http://";
}

void CheckTarget(const ParsedTarget& target) {
  HOTLINE_PROMISE(target.port != 0);
  HOTLINE_PROMISE(!target.host.empty());
  HOTLINE_PROMISE(target.host.size() <= 253);
  HOTLINE_PROMISE(target.canonical.find_first_not_of(
                      "abcdefghijklmnopqrstuvwxyz0123456789.-_:/[]") ==
                  std::string::npos);
  const bool ipv6 = target.host.find(':') != std::string::npos;
  // A name's dot at its end stays, but not in the host.
  HOTLINE_PROMISE(!target.host.ends_with('.'));
  HOTLINE_PROMISE(WithoutRootDot(target.canonical) ==
                  Scheme(target) + (ipv6 ? "[" : "") + target.host +
                      (ipv6 ? "]:" : ":") + std::to_string(target.port));
  ParsedTarget again;
  HOTLINE_PROMISE(!ParseTarget(target.canonical, &again).has_value());
  HOTLINE_PROMISE(again.canonical == target.canonical);
  // What ends with digits alone is an address to somebody.
  const std::string last = target.host.substr(target.host.rfind('.') + 1);
  if (!ipv6 && last.find_first_not_of("0123456789") == std::string::npos) {
    in_addr address;
    HOTLINE_PROMISE(inet_pton(AF_INET, target.host.c_str(), &address) == 1);
  }
}

}  // namespace

void FuzzUrl(std::string_view input) {
  ParsedTarget target;
  const auto bad_target = ParseTarget(input, &target);
  if (!bad_target.has_value()) CheckTarget(target);

  ParsedUrl url;
  if (const auto bad = ParseUrl(input, &url)) {
    HOTLINE_PROMISE(std::string_view(bad->reason) == "BAD_URL");
    HOTLINE_PROMISE(bad->field == "url" && !bad->message.empty());
    // Every target is a URL, but for those that speak no HTTP.
    HOTLINE_PROMISE(bad_target.has_value() || target.raw);
    return;
  }
  CheckTarget(url.target);
  HOTLINE_PROMISE(!url.target.raw);
  HOTLINE_PROMISE(input.size() <= kMaxUrlBytes);
  HOTLINE_PROMISE(IsVisible(url.path) && url.path[0] == '/');
  HOTLINE_PROMISE(url.path.find('#') == std::string::npos);
  HOTLINE_PROMISE(url.path == "/" || input.ends_with(url.path.substr(1)));
  if (!bad_target.has_value()) {
    HOTLINE_PROMISE(target.canonical == url.target.canonical);
  }
  // Put together again, it is the same, but for the dot of an absolute name: no
  // authority has it.
  ParsedUrl again;
  const std::string text = Scheme(url.target) + url.authority + url.path;
  if (text.size() > kMaxUrlBytes) return;
  HOTLINE_PROMISE(!ParseUrl(text, &again).has_value());
  HOTLINE_PROMISE(again.target.canonical ==
                  WithoutRootDot(url.target.canonical));
  HOTLINE_PROMISE(again.authority == url.authority);
  HOTLINE_PROMISE(again.path == url.path);
}

}  // namespace hotline::fuzz
