// HTTP/2 frames made by hand and read back, and a client of a ServerSession
// that sends whatever it is told to. The unit tests and the fuzzer share them.
#ifndef HOTLINE_TESTS_NET_HTTP2_RAW_FRAMES_H_
#define HOTLINE_TESTS_NET_HTTP2_RAW_FRAMES_H_

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/http2/server_memory.h"
#include "net/http2/server_session.h"

namespace hotline::net {

enum FrameFlag : uint8_t {
  kNoFlag = 0,
  kAck = 1,
  kEndStream = 1,
  kEndHeaders = 4,
  kPadded = 8,
  kPriority = 32,
};

inline std::string Bytes(uint64_t value, int count) {
  std::string bytes;
  for (int i = count - 1; i >= 0; --i) {
    bytes += static_cast<char>(value >> (8 * i) & 0xff);
  }
  return bytes;
}

inline std::string Frame(uint8_t type, uint8_t flags, uint32_t stream,
                         std::string_view payload = {}) {
  std::string frame = Bytes(payload.size(), 3) + Bytes(type, 1) +
                      Bytes(flags, 1) + Bytes(stream, 4);
  return frame.append(payload);
}

using FieldList = std::vector<std::pair<std::string, std::string>>;

// HPACK's plainest form: literals, not indexed.
inline std::string Block(const FieldList& fields) {
  const auto text = [](const std::string& s) {
    if (s.size() < 127) return Bytes(s.size(), 1) + s;
    std::string length = Bytes(127, 1);
    for (size_t left = s.size() - 127;; left >>= 7) {
      length += static_cast<char>((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
      if (left <= 0x7f) break;
    }
    return length + s;
  };
  std::string block;
  for (const auto& [name, value] : fields) {
    block += '\0' + text(name) + text(value);
  }
  return block;
}

inline FieldList PostFields(const FieldList& more = {}) {
  FieldList fields = {{":method", "POST"},
                      {":scheme", "http"},
                      {":path", "/a.B/C"},
                      {":authority", "h"}};
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

inline std::string Headers(uint32_t stream, const FieldList& fields,
                           uint8_t flags = kNoFlag) {
  return Frame(NGHTTP2_HEADERS, flags | kEndHeaders, stream, Block(fields));
}
inline std::string Post(uint32_t stream, uint8_t flags = kNoFlag,
                        const FieldList& more = {}) {
  return Headers(stream, PostFields(more), flags);
}
inline std::string Data(uint32_t stream, std::string_view data,
                        uint8_t flags = kNoFlag) {
  return Frame(NGHTTP2_DATA, flags, stream, data);
}
inline std::string Rst(uint32_t stream, uint32_t code = NGHTTP2_CANCEL) {
  return Frame(NGHTTP2_RST_STREAM, kNoFlag, stream, Bytes(code, 4));
}
inline std::string Window(uint32_t stream, uint32_t more) {
  return Frame(NGHTTP2_WINDOW_UPDATE, kNoFlag, stream, Bytes(more, 4));
}
inline std::string Ping(std::string_view payload = "12345678",
                        uint8_t flags = kNoFlag) {
  return Frame(NGHTTP2_PING, flags, 0, payload);
}
inline std::string GoAway(uint32_t last, uint32_t code,
                          std::string_view text = {}) {
  return Frame(NGHTTP2_GOAWAY, kNoFlag, 0,
               (Bytes(last, 4) + Bytes(code, 4)).append(text));
}
inline std::string Settings(
    const std::vector<std::pair<uint16_t, uint32_t>>& entries = {}) {
  std::string payload;
  for (const auto& [id, value] : entries) {
    payload += Bytes(id, 2) + Bytes(value, 4);
  }
  return Frame(NGHTTP2_SETTINGS, kNoFlag, 0, payload);
}
inline std::string SettingsAck() { return Frame(NGHTTP2_SETTINGS, kAck, 0); }
inline std::string Preface() { return NGHTTP2_CLIENT_MAGIC; }

// One frame of the session's output.
struct OutFrame {
  uint8_t type = 0;
  uint8_t flags = 0;
  uint32_t stream = 0;
  std::string payload;
  FieldList fields;  // Of HEADERS.

  uint32_t Number(size_t at = 0) const {
    uint32_t number = 0;
    for (size_t i = at; i < at + 4 && i < payload.size(); ++i) {
      number = number << 8 | static_cast<unsigned char>(payload[i]);
    }
    return number;
  }
  std::string Get(std::string_view name) const {
    for (const auto& [key, value] : fields) {
      if (key == name) return value;
    }
    return "-";
  }
};

// Reads what the session writes.
class OutReader {
 public:
  OutReader() {
    if (nghttp2_hd_inflate_new(&inflater_) != 0) std::abort();
  }
  OutReader(const OutReader&) = delete;
  ~OutReader() { nghttp2_hd_inflate_del(inflater_); }

  std::vector<OutFrame> Read(std::string_view bytes) {
    constexpr size_t kHead = 9;
    rest_.append(bytes);
    std::vector<OutFrame> frames;
    size_t at = 0;
    const auto byte = [&](size_t i) {
      return static_cast<unsigned char>(rest_[at + i]);
    };
    while (rest_.size() - at >= kHead) {
      const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
      if (rest_.size() - at < kHead + size) break;
      OutFrame frame;
      frame.type = byte(3);
      frame.flags = byte(4);
      frame.stream = static_cast<uint32_t>(byte(5) & 0x7f) << 24 |
                     byte(6) << 16 | byte(7) << 8 | byte(8);
      frame.payload = rest_.substr(at + kHead, size);
      if (frame.type == NGHTTP2_HEADERS) Inflate(&frame);
      at += kHead + size;
      frames.push_back(std::move(frame));
    }
    rest_.erase(0, at);
    return frames;
  }
  // Bytes of a frame that is not complete.
  const std::string& rest() const { return rest_; }

 private:
  void Inflate(OutFrame* frame) {
    std::string_view left = frame->payload;
    for (;;) {
      nghttp2_nv field;
      int flags = 0;
      const ssize_t used = nghttp2_hd_inflate_hd2(
          inflater_, &field, &flags,
          reinterpret_cast<const uint8_t*>(left.data()), left.size(), 1);
      if (used < 0) std::abort();
      left.remove_prefix(static_cast<size_t>(used));
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
        frame->fields.emplace_back(
            std::string(field.name, field.name + field.namelen),
            std::string(field.value, field.value + field.valuelen));
      }
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
        nghttp2_hd_inflate_end_headers(inflater_);
        return;
      }
    }
  }

  nghttp2_hd_inflater* inflater_ = nullptr;
  std::string rest_;
};

// Records what the session says, and checks its order.
class EventRecorder final : public ServerEvents {
 public:
  struct Call {
    ServerStream* stream = nullptr;  // Null once it is closed.
    std::string method, path, authority;
    FieldList fields;
    bool too_large = false;
    std::string body;
    bool ended = false;
    int sendable = 0;
    int closed = 0;
    StreamEnd end = StreamEnd::kComplete;
    uint32_t code = 0;
  };

  void OnRequestHeaders(ServerStream* stream, const RequestHead& head,
                        bool end) override {
    Call& call = calls[stream->id()];
    if (call.stream != nullptr || call.closed > 0) ++disorders;
    call.stream = stream;
    call.method = std::string(head.method);
    call.path = std::string(head.path);
    call.authority = std::string(head.authority);
    call.too_large = head.too_large;
    call.ended = end;
    for (const HeaderField& field : head.fields) {
      call.fields.emplace_back(field.name, field.value);
    }
    if (on_request) on_request(stream);
    if (end && on_end) on_end(stream);
  }
  void OnData(ServerStream* stream, std::string_view bytes) override {
    Call& call = calls[stream->id()];
    if (call.stream != stream || call.ended || bytes.empty()) ++disorders;
    call.body.append(bytes);
    if (on_data) on_data(stream, bytes);
  }
  void OnEnd(ServerStream* stream) override {
    Call& call = calls[stream->id()];
    if (call.stream != stream || call.ended) ++disorders;
    call.ended = true;
    if (on_end) on_end(stream);
  }
  void OnSendable(ServerStream* stream) override {
    Call& call = calls[stream->id()];
    if (call.stream != stream) ++disorders;
    ++call.sendable;
    if (on_sendable) on_sendable(stream);
  }
  void OnClosed(ServerStream* stream, StreamEnd end, uint32_t code) override {
    Call& call = calls[stream->id()];
    if (call.stream != stream || call.closed > 0) ++disorders;
    call.stream = nullptr;
    ++call.closed;
    call.end = end;
    call.code = code;
    if (keep_no_calls) calls.erase(stream->id());
  }
  void OnLateReset(int32_t id, uint32_t code) override {
    late_resets.emplace_back(id, code);
    if (keep_no_calls) late_resets.clear();
  }

  std::map<int32_t, Call> calls;
  std::vector<std::pair<int32_t, uint32_t>> late_resets;
  int disorders = 0;
  bool keep_no_calls = false;  // Floods have too many.
  std::function<void(ServerStream*)> on_request, on_end, on_sendable;
  std::function<void(ServerStream*, std::string_view)> on_data;
};

// A session, and its client's end of the connection.
class RawClient {
 public:
  explicit RawClient(const ServerOptions& options = {}) : options_(options) {
    session_ =
        std::make_unique<ServerSession>(&events, &memory_, &options_, now);
  }

  // Shakes hands.
  void Connect(
      const std::vector<std::pair<uint16_t, uint32_t>>& settings = {}) {
    Send(Preface() + Settings(settings) + SettingsAck());
    Read();
  }

  // False: the session has ended.
  bool Send(std::string_view bytes) {
    // A copy of its own: reading past it shows under AddressSanitizer.
    const std::unique_ptr<char[]> copy(new char[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), copy.get());
    return session_->Receive({copy.get(), bytes.size()}, now);
  }
  // Takes all output, at most `most` bytes at a time.
  std::vector<OutFrame> Read(size_t most = SIZE_MAX) {
    std::string all;
    for (;;) {
      const std::string_view out = session_->Output().substr(0, most);
      if (out.empty()) break;
      all.append(out);
      session_->OnWritten(out.size());
    }
    bytes_read += all.size();
    std::vector<OutFrame> frames = reader_.Read(all);
    for (OutFrame& frame : frames) seen.push_back(frame);
    return frames;
  }
  // The socket takes a byte of the output, and then nothing until Read.
  void Stall() {
    const std::string_view out = session_->Output();
    if (out.empty()) return;
    reader_.Read(out.substr(0, 1));
    session_->OnWritten(1);
  }
  std::vector<OutFrame> Exchange(std::string_view bytes) {
    Send(bytes);
    return Read();
  }

  // The first of `type` that was ever read; type 255: there is none.
  OutFrame First(uint8_t type) const {
    for (const OutFrame& frame : seen) {
      if (frame.type == type) return frame;
    }
    OutFrame none;
    none.type = 255;
    return none;
  }
  size_t Count(uint8_t type) const {
    return std::count_if(seen.begin(), seen.end(),
                         [type](const OutFrame& f) { return f.type == type; });
  }

  ServerSession& session() { return *session_; }
  void Destroy() { session_.reset(); }
  const std::string& unread() const { return reader_.rest(); }

  EventRecorder events;
  Instant now = Instant{} + std::chrono::hours(1);
  std::vector<OutFrame> seen;
  size_t bytes_read = 0;

 private:
  const ServerOptions options_;
  ServerMemory memory_;
  OutReader reader_;
  std::unique_ptr<ServerSession> session_;
};

}  // namespace hotline::net

#endif  // HOTLINE_TESTS_NET_HTTP2_RAW_FRAMES_H_
