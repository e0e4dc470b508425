#include <algorithm>
#include <cctype>
#include <iterator>
#include <string>
#include <string_view>

#include "server/broker/http_head.h"
#include "tests/fuzz/targets.h"
#include "tests/upstream/codec/http1_driver.h"

namespace hotline::fuzz {
namespace {

constexpr std::string_view kOwned[] = {
    "connection",        "keep-alive", "proxy-connection", "te",    "trailer",
    "transfer-encoding", "upgrade",    "content-length",   "expect"};

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = std::tolower(static_cast<unsigned char>(c));
  return lower;
}

// What goes out for a request with this method and header.
std::string Written(std::string_view method, std::string_view name,
                    std::string_view value) {
  upstream::Recorder recorder;
  const auto codec = upstream::MakeHttp1Codec(&recorder);
  const upstream::HeaderView header{name, value};
  codec->Submit(
      {.method = method, .authority = "example.com", .headers = {&header, 1}});
  std::string out;
  codec->TakeOutput(&out);
  return out;
}

}  // namespace

void FuzzHeader(std::string_view input) {
  if (input.empty()) return;
  const size_t size = static_cast<unsigned char>(input[0]) & 0x3f;
  const std::string_view name = input.substr(1, size);
  const std::string_view value = input.substr(std::min(input.size(), 1 + size));

  ParsedUrl url;
  HOTLINE_PROMISE(!ParseUrl("https://example.com/", &url).has_value());
  const std::string lower = Lower(name);
  if (const auto fault = server::CheckHeader(name, value, url)) {
    HOTLINE_PROMISE(fault->message != nullptr);
  } else {
    HOTLINE_PROMISE(std::find(std::begin(kOwned), std::end(kOwned), lower) ==
                    std::end(kOwned));
    // What was one header is one line, wherever the server splits lines, and
    // its value begins and ends with something.
    std::string_view kept = value;
    const auto blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!kept.empty() && blank(kept.front())) kept.remove_prefix(1);
    while (!kept.empty() && blank(kept.back())) kept.remove_suffix(1);
    const std::string line = std::string(name) + ": " + std::string(kept);
    HOTLINE_PROMISE(line.find_first_of("\r\n") == std::string::npos);
    HOTLINE_PROMISE(line.find('\0') == std::string::npos);
    HOTLINE_PROMISE(line.find(':') == name.size());
    HOTLINE_PROMISE(Written("GET", name, value) ==
                    "GET / HTTP/1.1\r\nHost: example.com\r\n" +
                        (lower == "host" ? "" : line + "\r\n") + "\r\n");
  }
  if (!server::ValidateMethod(name).has_value() && !name.empty()) {
    HOTLINE_PROMISE(lower != "connect");
    const std::string out = Written(name, "a", "b");
    HOTLINE_PROMISE(out.compare(0, name.size() + 12,
                                std::string(name) + " / HTTP/1.1\r") == 0);
    HOTLINE_PROMISE(out.find_first_of(" \r\n\t") == name.size());
  }
}

}  // namespace hotline::fuzz
