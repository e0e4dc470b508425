// A request as HTTP/2 has it: pseudo-headers first, nothing that belongs to a
// connection, no blanks around values: peers take those for malformed.
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP2_REQUEST_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP2_REQUEST_H_

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include "upstream/codec/http_text.h"
#include "upstream/types.h"

namespace hotline::upstream {

// Fields are views of what they were made of.
class Http2RequestHead {
 public:
  Http2RequestHead(std::vector<nghttp2_nv>* fields, std::string_view scheme,
                   const Request& request)
      : fields_(fields) {
    fields_->clear();
    fields_->reserve(request.headers.size() + 5);
    Add(":method", request.method);
    Add(":scheme", scheme);
    Add(":authority", request.authority);
    Add(":path", request.path);
  }

  // nghttp2 turns names to lower case as it copies them.
  void AddHeaders(const Request& request, bool with_length) {
    for (const HeaderView& header : request.headers) {
      if (!Belongs(header, with_length)) continue;
      Add(header.name, Trimmed(header.value));
    }
  }

  void AddLength(uint64_t length) {
    const auto end = std::to_chars(digits_, digits_ + sizeof digits_, length);
    Add("content-length", {digits_, end.ptr});
  }

 private:
  static bool Belongs(const HeaderView& header, bool with_length) {
    const std::string_view name = header.name;
    if (name.empty() || name[0] == ':') return false;
    for (std::string_view dropped :
         {"host", "connection", "keep-alive", "proxy-connection", "upgrade",
          "transfer-encoding", "http2-settings"}) {
      if (EqualsIgnoringCase(name, dropped)) return false;
    }
    if (EqualsIgnoringCase(name, "te")) {
      return EqualsIgnoringCase(Trimmed(header.value), "trailers");
    }
    return with_length || !EqualsIgnoringCase(name, "content-length");
  }

  void Add(std::string_view name, std::string_view value) {
    fields_->push_back({Bytes(name), Bytes(value), name.size(), value.size(),
                        NGHTTP2_NV_FLAG_NONE});
  }

  // nghttp2 only reads them.
  static uint8_t* Bytes(std::string_view text) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
  }

  std::vector<nghttp2_nv>* const fields_;
  char digits_[20];
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP2_REQUEST_H_
