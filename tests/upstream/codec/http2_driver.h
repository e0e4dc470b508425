// Both ends of HTTP/2 without a socket: frames made by hand, a server
// (nghttp2's) that does as it is told, and a recorder of what the codec says.
// The unit tests and the fuzzer share them.
#ifndef HOTLINE_TESTS_UPSTREAM_CODEC_HTTP2_DRIVER_H_
#define HOTLINE_TESTS_UPSTREAM_CODEC_HTTP2_DRIVER_H_

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/upstream/codec/http1_driver.h"
#include "upstream/codec/http2.h"

namespace hotline::upstream {

// Frames.

enum Flag : uint8_t {
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

inline std::string Frame(uint8_t type, uint8_t flags, StreamId stream,
                         std::string_view payload = {}) {
  std::string frame = Bytes(payload.size(), 3) + Bytes(type, 1) +
                      Bytes(flags, 1) + Bytes(stream, 4);
  return frame.append(payload);
}

using Fields = std::vector<std::pair<std::string, std::string>>;

// HPACK, the plainest: literals that are not indexed.
inline std::string Block(const Fields& fields) {
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

inline std::string HeadersFrame(StreamId stream, const Fields& fields,
                                uint8_t flags = kNoFlag) {
  return Frame(NGHTTP2_HEADERS, flags | kEndHeaders, stream, Block(fields));
}

inline std::string DataFrame(StreamId stream, std::string_view data,
                             uint8_t flags = kNoFlag) {
  return Frame(NGHTTP2_DATA, flags, stream, data);
}

inline std::string ResetFrame(StreamId stream, uint32_t code) {
  return Frame(NGHTTP2_RST_STREAM, kNoFlag, stream, Bytes(code, 4));
}

inline std::string GoAwayFrame(StreamId last, uint32_t code,
                               std::string_view text = {}) {
  return Frame(NGHTTP2_GOAWAY, kNoFlag, 0,
               (Bytes(last, 4) + Bytes(code, 4)).append(text));
}

inline std::string WindowFrame(StreamId stream, uint32_t more) {
  return Frame(NGHTTP2_WINDOW_UPDATE, kNoFlag, stream, Bytes(more, 4));
}

inline std::string SettingsFrame(
    const std::vector<std::pair<uint16_t, uint32_t>>& entries = {}) {
  std::string payload;
  for (const auto& [id, value] : entries) {
    payload += Bytes(id, 2) + Bytes(value, 4);
  }
  return Frame(NGHTTP2_SETTINGS, kNoFlag, 0, payload);
}

// What the codec says, by stream, and of the connection.
class Http2Recorder final : public CodecEvents, public Http2Events {
 public:
  void OnHead(StreamId id, int status, std::vector<Header> headers) override {
    streams[id].OnHead(id, status, std::move(headers));
    if (on_head) on_head(id);
  }
  void OnBody(StreamId id, std::string_view piece) override {
    streams[id].OnBody(id, piece);
    if (on_body) on_body(id, piece);
  }
  void OnTrailers(StreamId id, std::vector<Header> trailers) override {
    streams[id].OnTrailers(id, std::move(trailers));
  }
  void OnComplete(StreamId id) override {
    streams[id].OnComplete(id);
    ++completed;
    if (on_complete) on_complete(id);
  }
  void OnStreamError(StreamId id, CallError error, Verdict verdict,
                     std::string message) override {
    streams[id].OnStreamError(id, error, verdict, std::move(message));
    ++failed;
    if (on_error) on_error(id);
  }
  void OnSendable(StreamId id) override {
    ++sendable[id];
    if (on_sendable) on_sendable(id);
  }
  void OnReady(int max_streams) override {
    connection.push_back("ready " + std::to_string(max_streams));
  }
  void OnConcurrency(int max_streams) override {
    connection.push_back("concurrency " + std::to_string(max_streams));
  }
  void OnGoAway(StreamId last, std::string why) override {
    said_goodbye = true;
    connection.push_back("goaway " + std::to_string(last) + " " + why);
  }
  void OnPingAck() override { connection.push_back("ping ack"); }

  std::string Text(StreamId id) { return streams[id].Text(); }
  int disorders() const {
    int all = 0;
    for (const auto& [id, stream] : streams) all += stream.disorders;
    return all;
  }
  // Everything, for comparing.
  std::string All() const {
    std::string text;
    for (const auto& [id, stream] : streams) {
      text += std::to_string(id) + ": " + stream.Text() + "\n";
    }
    for (const std::string& event : connection) text += event + "\n";
    return text;
  }

  std::map<StreamId, Recorder> streams;
  std::map<StreamId, int> sendable;
  std::vector<std::string> connection;
  int completed = 0;
  int failed = 0;
  bool said_goodbye = false;
  std::function<void(StreamId)> on_head, on_complete, on_error, on_sendable;
  std::function<void(StreamId, std::string_view)> on_body;
};

// A server in memory.
class Http2Peer {
 public:
  struct Options {
    uint32_t max_streams = 128;
    int32_t stream_window = 65535;
    int32_t connection_window = 65535;
    // Whether bytes of requests' bodies open the windows again by themselves.
    bool consumes = true;
  };

  struct Asked {
    std::vector<Header> headers;
    std::string body;
    bool ended = false;
    bool reset = false;
    uint32_t code = 0;  // Of the reset.

    std::string Get(std::string_view name) const {
      std::string all;
      for (const Header& h : headers) {
        if (h.name == name) all += (all.empty() ? "" : "|") + h.value;
      }
      return all;
    }
  };

  explicit Http2Peer(const Options& options) : options_(options) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, &OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                              &OnData);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, &OnFrame);
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_session_server_new2(&session_, callbacks, this, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    Set({{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options.max_streams},
         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
          static_cast<uint32_t>(options.stream_window)}});
    if (options.connection_window != 65535) {
      nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                            options.connection_window);
    }
  }
  Http2Peer(const Http2Peer&) = delete;
  ~Http2Peer() { nghttp2_session_del(session_); }

  // False: the client broke the protocol.
  bool Feed(std::string_view bytes) {
    const auto size = static_cast<ssize_t>(bytes.size());
    return nghttp2_session_mem_recv(
               session_, reinterpret_cast<const uint8_t*>(bytes.data()),
               bytes.size()) == size;
  }

  std::string TakeOutput() {
    std::string out;
    const uint8_t* data = nullptr;
    for (;;) {
      const ssize_t size = nghttp2_session_mem_send(session_, &data);
      if (size <= 0) return out;
      out.append(reinterpret_cast<const char*>(data), size);
    }
  }

  void Set(const std::vector<nghttp2_settings_entry>& entries) {
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries.data(),
                            entries.size());
  }
  void SetMaxStreams(uint32_t count) {
    Set({{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, count}});
  }

  void Answer(StreamId id, const Fields& fields, std::string body = {},
              const Fields& trailers = {}) {
    Pending& pending = pending_[id];
    pending.body = std::move(body);
    pending.trailers = trailers;
    nghttp2_data_provider provider = {};
    provider.source.ptr = &pending;
    provider.read_callback = &ReadBody;
    const auto nva = Nva(fields);
    nghttp2_submit_response(session_, id, nva.data(), nva.size(), &provider);
  }
  void Reset(StreamId id, uint32_t code) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code);
  }
  void GoAway(StreamId last, uint32_t code) {
    nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last, code, nullptr, 0);
  }
  // Opens the windows for bytes of a request's body.
  void Consume(StreamId id, size_t bytes) {
    nghttp2_session_consume(session_, id, bytes);
  }
  size_t open() const {
    size_t count = 0;
    for (const auto& [id, asked] : requests) {
      count += nghttp2_session_find_stream(session_, id) != nullptr &&
               nghttp2_stream_get_state(nghttp2_session_find_stream(
                   session_, id)) != NGHTTP2_STREAM_STATE_CLOSED;
    }
    return count;
  }

  std::map<StreamId, Asked> requests;
  int pings = 0;
  uint32_t goaway_code = 0;
  std::function<void(StreamId)> on_request;  // Its head, or its end with it.
  std::function<void(StreamId)> on_end;

 private:
  struct Pending {
    std::string body;
    size_t used = 0;
    Fields trailers;
  };

  static Http2Peer* Self(void* self) { return static_cast<Http2Peer*>(self); }

  static std::vector<nghttp2_nv> Nva(const Fields& fields) {
    std::vector<nghttp2_nv> nva;
    for (const auto& [name, value] : fields) {
      const auto bytes = [](const std::string& s) {
        return reinterpret_cast<uint8_t*>(const_cast<char*>(s.data()));
      };
      nva.push_back({bytes(name), bytes(value), name.size(), value.size(),
                     NGHTTP2_NV_FLAG_NONE});
    }
    return nva;
  }

  static ssize_t ReadBody(nghttp2_session* session, int32_t id, uint8_t* out,
                          size_t most, uint32_t* flags,
                          nghttp2_data_source* source, void*) {
    auto* pending = static_cast<Pending*>(source->ptr);
    const size_t size =
        pending->body.copy(reinterpret_cast<char*>(out), most, pending->used);
    pending->used += size;
    if (pending->used == pending->body.size()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (!pending->trailers.empty()) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const auto nva = Nva(pending->trailers);
        nghttp2_submit_trailer(session, id, nva.data(), nva.size());
      }
    }
    return static_cast<ssize_t>(size);
  }

  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame,
                      const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t,
                      void* self) {
    Self(self)->requests[frame->hd.stream_id].headers.push_back(
        {std::string(name, name + name_size),
         std::string(value, value + value_size)});
    return 0;
  }

  static int OnData(nghttp2_session* session, uint8_t, int32_t id,
                    const uint8_t* data, size_t size, void* self) {
    Self(self)->requests[id].body.append(reinterpret_cast<const char*>(data),
                                         size);
    if (Self(self)->options_.consumes) {
      nghttp2_session_consume(session, id, size);
    }
    return 0;
  }

  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    Http2Peer* const peer = Self(self);
    const StreamId id = frame->hd.stream_id;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        if (peer->on_request) peer->on_request(id);
        [[fallthrough]];
      case NGHTTP2_DATA:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
          peer->requests[id].ended = true;
          if (peer->on_end) peer->on_end(id);
        }
        break;
      case NGHTTP2_RST_STREAM:
        peer->requests[id].reset = true;
        peer->requests[id].code = frame->rst_stream.error_code;
        break;
      case NGHTTP2_PING:
        peer->pings += (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0;
        break;
      case NGHTTP2_GOAWAY:
        peer->goaway_code = frame->goaway.error_code;
        break;
      default:
        break;
    }
    return 0;
  }

  const Options options_;
  nghttp2_session* session_ = nullptr;
  std::map<StreamId, Pending> pending_;
};

// Takes and "writes" what the codec wants to.
inline std::string Flush(Codec* codec) {
  std::string all;
  while (codec->WantsWrite()) {
    std::string out;
    codec->TakeOutput(&out);
    if (out.empty()) break;
    codec->OnWritten(out.size());
    all += out;
  }
  return all;
}

// One request, and frames that were made beforehand.
struct Http2Exchange {
  std::string_view method = "GET";
  std::string_view answer;
  bool eof = false;  // After the answer.
  Http2Limits limits;
  std::string_view settings;  // What comes first; empty: an empty SETTINGS.
  // Two requests more: one like the first, one whose answer is streamed.
  bool three = false;
  // Leaves out what depends on the pieces: how much came of a body that breaks
  // off, and what is made of bytes that come after a farewell and all streams.
  bool comparable = false;
};

struct Http2Outcome {
  std::string events;
  std::string message;  // Of the stream's error.
  std::string problem;  // Of the connection.
  int disorders = 0;
  bool open = false;                      // Feed still says yes.
  bool reusable = false;                  // CanSubmit.
  size_t streams = 0;                     // Still open.
  size_t ends = 0;                        // That were told.
  std::optional<std::string> first_body;  // Of stream 1, when it is complete.

  friend bool operator==(const Http2Outcome&, const Http2Outcome&) = default;
  friend void PrintTo(const Http2Outcome& o, std::ostream* out) {
    *out << o.events.substr(0, 1000) << "message: " << o.message
         << "\nproblem: " << o.problem << "\nopen " << o.open << " reusable "
         << o.reusable << " streams " << o.streams << " disorders "
         << o.disorders;
  }
};

// `cut(left)` says how long the next piece is (1 to left).
inline Http2Outcome RunHttp2(const Http2Exchange& exchange,
                             const std::function<size_t(size_t left)>& cut) {
  Http2Recorder recorder;
  const auto codec =
      MakeHttp2Codec(&recorder, &recorder, "https", exchange.limits);
  Flush(codec.get());
  codec->Feed(exchange.settings.empty() ? SettingsFrame() : exchange.settings);
  Http2Outcome outcome;
  if (codec->CanSubmit()) {
    Request request;
    request.method = exchange.method;
    request.authority = "h";
    codec->Submit(request);
    if (exchange.three) {
      codec->Submit(request);
      codec->OpenStream(request, /*end=*/true);
      recorder.on_body = [&](StreamId id, std::string_view piece) {
        codec->Consume(id, piece.size());
      };
    }
  }
  Flush(codec.get());
  outcome.open = codec->error().message.empty();
  std::string_view left = exchange.answer;
  while (!left.empty() && outcome.open) {
    const size_t size = cut(left.size());
    // A copy of its own: reading past a piece shows under AddressSanitizer.
    const std::string piece(left.substr(0, size));
    outcome.open = codec->Feed(piece);
    Flush(codec.get());
    left.remove_prefix(size);
  }
  if (exchange.eof && outcome.open) {
    codec->FeedEof();
    outcome.open = false;
  }
  outcome.ends = recorder.completed + recorder.failed;
  if (recorder.streams[1].completed > 0) {
    outcome.first_body = recorder.streams[1].body;
  }
  if (exchange.comparable) {
    for (auto& [id, stream] : recorder.streams) {
      if (stream.completed == 0) stream.body.clear();
    }
  }
  outcome.events = recorder.All();
  outcome.message = recorder.streams[1].message;
  outcome.problem = codec->error().message;
  outcome.disorders = recorder.disorders();
  outcome.reusable = codec->CanSubmit();
  outcome.streams = codec->open_streams();
  if (exchange.comparable && outcome.streams == 0 && recorder.said_goodbye) {
    outcome.problem.clear();
    outcome.open = false;
  }
  return outcome;
}

inline Http2Outcome RunHttp2Whole(const Http2Exchange& exchange) {
  return RunHttp2(exchange, [](size_t left) { return left; });
}

inline Http2Outcome RunHttp2ByteByByte(const Http2Exchange& exchange) {
  return RunHttp2(exchange, [](size_t) { return size_t{1}; });
}

}  // namespace hotline::upstream

#endif  // HOTLINE_TESTS_UPSTREAM_CODEC_HTTP2_DRIVER_H_
