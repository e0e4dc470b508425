// What http1.cc makes of Boost.Beast; no other file sees Beast's parser.
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP1_PARSER_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP1_PARSER_H_

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "upstream/codec/http_text.h"
#include "upstream/types.h"

namespace hotline::upstream {

// Whether a comma-separated list has `token` in it.
inline bool ListHas(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view item = Trimmed(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (EqualsIgnoringCase(item, token)) return true;
  }
  return false;
}

// Beast's parser for one answer, and what Beast leaves open decided: which
// codings are known, what keeps a connection from being used again.
//
// It is only given whole heads, whole chunk lines and whole trailers, which
// HeaderScanner has found: Beast itself accepts folded lines, and asserts on
// what a "0\r\n" that arrives in pieces does to it.
class AnswerParser final : public boost::beast::http::basic_parser<false> {
 public:
  // `body` is called with each piece of the body.
  using BodySink = void (*)(void* self, std::string_view piece);

  AnswerParser(bool to_head, size_t lines, BodySink body, void* self)
      : body_(body), self_(self) {
    skip(to_head);
    header_limit(std::numeric_limits<uint32_t>::max());
    body_limit(boost::none);
    fields_.reserve(lines);
  }

  // Gives `bytes` to Beast, which must take all of them when `whole`. Returns
  // how many it took; sets problem() when they are not HTTP.
  size_t Put(std::string_view bytes, bool whole) {
    boost::beast::error_code ec;
    const size_t used = put({bytes.data(), bytes.size()}, ec);
    if (problem_.empty() && ec) problem_ = ec.message();
    if (problem_.empty() && whole && used != bytes.size()) {
      problem_ = "malformed";
    }
    return used;
  }

  const std::string& problem() const { return problem_; }
  int status() const { return status_; }
  // Since the last call: first those of the head, then those of the trailers.
  std::vector<Header> TakeFields() { return std::exchange(fields_, {}); }
  void ReserveFields(size_t lines) { fields_.reserve(lines); }
  // The size of the chunk whose line was taken last.
  uint64_t chunk_size() const { return chunk_size_; }
  bool announces_body() const { return coded_ || length_ > 0; }
  // Whether a 101 agrees to `protocol` (lower case), and to nothing else.
  bool upgrades_to(std::string_view protocol) const {
    return version_ >= 11 && switches_ &&
           EqualsIgnoringCase(upgrade_, protocol);
  }
  bool reusable() const {
    return keep_alive() && !close_ && lengths_ <= 1 &&
           !(status_ == 204 && announces_body());
  }

 private:
  using ErrorCode = boost::beast::error_code;
  using BeastView = boost::beast::string_view;

  void Refuse(const char* problem, ErrorCode& ec) {
    problem_ = problem;
    ec = boost::beast::http::error::bad_value;
  }

  void on_request_impl(boost::beast::http::verb, BeastView, BeastView, int,
                       ErrorCode&) override {}

  void on_response_impl(int status, BeastView, int version,
                        ErrorCode& ec) override {
    status_ = status;
    version_ = version;
    // Three digits, so at most 999. What has no class of its own is the
    // caller's to judge.
    if (status < 100) Refuse("status out of range", ec);
  }

  void on_field_impl(boost::beast::http::field field, BeastView name,
                     BeastView value, ErrorCode& ec) override {
    switch (field) {
      case boost::beast::http::field::content_length:
        // Beast has refused lengths that differ. The same one twice is legal,
        // and still a sign of somebody confused about framing.
        lengths_ += 1 + std::count(value.begin(), value.end(), ',');
        std::from_chars(value.data(), value.data() + value.size(), length_);
        break;
      case boost::beast::http::field::transfer_encoding:
        if (coded_ || !EqualsIgnoringCase(value, "chunked")) {
          return Refuse("unknown transfer coding", ec);
        }
        if (version_ < 11) {
          return Refuse("transfer coding in HTTP/1.0", ec);
        }
        coded_ = true;
        break;
      case boost::beast::http::field::connection:
      case boost::beast::http::field::proxy_connection:
        close_ = close_ || ListHas(value, "close");
        switches_ = switches_ || ListHas(value, "upgrade");
        break;
      case boost::beast::http::field::upgrade:
        if (!upgrade_.empty()) upgrade_ += ',';
        upgrade_.append(value.data(), value.size());
        break;
      default:
        break;
    }
    fields_.push_back({LowerCase({name.data(), name.size()}),
                       std::string(value.data(), value.size())});
  }

  void on_header_impl(ErrorCode&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&,
                         ErrorCode&) override {}
  size_t on_body_impl(BeastView piece, ErrorCode&) override {
    body_(self_, piece);
    return piece.size();
  }
  void on_chunk_header_impl(uint64_t size, BeastView, ErrorCode&) override {
    chunk_size_ = size;
  }
  size_t on_chunk_body_impl(uint64_t, BeastView piece, ErrorCode&) override {
    body_(self_, piece);
    return piece.size();
  }
  void on_finish_impl(ErrorCode&) override {}

  const BodySink body_;
  void* const self_;
  std::vector<Header> fields_;
  std::string problem_;
  int status_ = 0;
  int version_ = 0;
  uint64_t chunk_size_ = 0;
  uint64_t length_ = 0;
  int64_t lengths_ = 0;  // How often a length was given.
  bool coded_ = false;
  bool close_ = false;
  bool switches_ = false;  // Connection has "upgrade".
  std::string upgrade_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP1_PARSER_H_
