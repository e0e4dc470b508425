// Callers that send gRPC as raw HTTP/2 frames, over socket pairs, to a
// FrontLoop on the upstream's first loop, with a real broker behind it.
#ifndef HOTLINE_TESTS_SERVER_FRONT_FRONT_FIXTURE_H_
#define HOTLINE_TESTS_SERVER_FRONT_FRONT_FIXTURE_H_

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "google/protobuf/message.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "net/tls/tls.h"
#include "server/front/front_loop.h"
#include "server/front/grpc_wire.h"
#include "server/front/health.h"
#include "server/front/reflection.h"
#include "tests/net/http2/raw_frames.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {

// A message with gRPC's length prefix.
inline std::string Prefixed(std::string_view message) {
  const MessagePrefix prefix = MakeMessagePrefix(message.size());
  return std::string(prefix.data(), prefix.size()).append(message);
}
inline std::string Prefixed(const google::protobuf::Message& message) {
  return Prefixed(message.SerializeAsString());
}

// A caller. Its reads block for at most 20 s.
class RawCaller {
 public:
  // The answer on one stream so far.
  struct Answer {
    std::vector<std::string> messages;
    std::string status = "none";  // grpc-status, or "reset" for RST_STREAM.
    std::string text;             // grpc-message.
    bool has_details = false;
    std::string reason;  // Of the ErrorInfo.
    uint32_t reset = 0;  // The code of RST_STREAM.
    bool ended = false;
    net::FieldList head;
  };

  // With `tls`, Handshake must be called first.
  explicit RawCaller(int fd, std::unique_ptr<net::TlsEngine> tls = nullptr)
      : fd_(fd), tls_(std::move(tls)) {
    timeval limit{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~RawCaller() { Close(); }

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  // Returns false if either side aborts the handshake.
  bool Handshake() {
    for (;;) {
      std::string out;
      const net::TlsResult result = tls_->Handshake(&out);
      SendPlain(out);
      if (result == net::TlsResult::kOk) return true;
      if (result != net::TlsResult::kWantInput || !Receive()) return false;
      tls_->Feed(received_);
    }
  }

  void Send(std::string_view bytes) {
    if (tls_ == nullptr) return SendPlain(bytes);
    std::string out;
    EXPECT_TRUE(tls_->Write(bytes, &out));
    SendPlain(out);
  }
  void SendPlain(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // The next read reports why.
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  void Connect() {
    Send(net::Preface() + net::Settings() + net::SettingsAck());
  }

  static std::string Head(uint32_t stream, const std::string& path,
                          const net::FieldList& more = {}) {
    net::FieldList fields = {{":method", "POST"},
                             {":scheme", "http"},
                             {":path", path},
                             {":authority", "h"},
                             {"content-type", "application/grpc"},
                             {"te", "trailers"}};
    fields.insert(fields.end(), more.begin(), more.end());
    return net::Headers(stream, fields);
  }
  // A complete unary call.
  static std::string Call(uint32_t stream, const std::string& path,
                          const std::string& body,
                          const net::FieldList& more = {}) {
    return Head(stream, path, more) + net::Data(stream, body, net::kEndStream);
  }

  // Reads more bytes. Returns false at the end of the connection.
  bool ReadMore() {
    std::string bytes;
    if (tls_ != nullptr ? !ReadTls(&bytes) : !Receive()) return false;
    if (tls_ == nullptr) bytes = received_;
    raw += bytes;
    if (raw.starts_with("HTTP/")) return true;
    for (net::OutFrame& frame : reader_.Read(bytes)) {
      Take(frame);
      frames.push_back(std::move(frame));
    }
    return true;
  }
  // Returns false if the connection ends before `done` holds.
  bool ReadUntil(const std::function<bool()>& done) {
    while (!done()) {
      if (!ReadMore()) return false;
    }
    return true;
  }
  Answer& Await(uint32_t stream) {
    EXPECT_TRUE(ReadUntil([&] { return answers_[stream].ended; }));
    return answers_[stream];
  }
  Answer& AwaitMessages(uint32_t stream, size_t count) {
    EXPECT_TRUE(
        ReadUntil([&] { return answers_[stream].messages.size() >= count; }));
    return answers_[stream];
  }
  // Reads until the other side closes.
  void ReadToEnd() {
    while (ReadMore()) {
    }
  }
  size_t Count(uint8_t type) const {
    return static_cast<size_t>(
        std::count_if(frames.begin(), frames.end(),
                      [type](const auto& f) { return f.type == type; }));
  }

  Answer& answer(uint32_t stream) { return answers_[stream]; }

  std::string raw;
  std::vector<net::OutFrame> frames;
  uint64_t credit = 0;  // WINDOW_UPDATEs for streams.

 private:
  bool Receive() {
    received_.resize(16 << 10);
    const ssize_t size = recv(fd_, received_.data(), received_.size(), 0);
    received_.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return size > 0;
  }
  bool ReadTls(std::string* bytes) {
    for (;;) {
      bytes->resize(16 << 10);
      size_t size = 0;
      std::string out;
      const net::TlsResult result =
          tls_->Read(bytes->data(), bytes->size(), &size, &out);
      bytes->resize(size);
      if (result == net::TlsResult::kOk) return true;
      if (result != net::TlsResult::kWantInput || !Receive()) return false;
      tls_->Feed(received_);
    }
  }
  void Take(const net::OutFrame& frame) {
    Answer& answer = answers_[frame.stream];
    if (frame.type == NGHTTP2_WINDOW_UPDATE && frame.stream != 0) {
      credit += frame.Number();
    } else if (frame.type == NGHTTP2_RST_STREAM) {
      if (!answer.ended) answer.status = "reset";
      answer.reset = frame.Number();
      answer.ended = true;
    } else if (frame.type == NGHTTP2_DATA) {
      TakeMessages(&bodies_[frame.stream].append(frame.payload),
                   &answer.messages);
    } else if (frame.type == NGHTTP2_HEADERS) {
      if (answer.head.empty()) answer.head = frame.fields;
      if (frame.Get("grpc-status") != "-") {
        answer.status = frame.Get("grpc-status");
        answer.text = frame.Get("grpc-message");
        const std::string details = frame.Get("grpc-status-details-bin");
        answer.has_details = details != "-";
        if (answer.has_details) answer.reason = ReasonIn(details);
      }
    }
    const bool ends =
        frame.type == NGHTTP2_HEADERS || frame.type == NGHTTP2_DATA;
    if (ends && (frame.flags & net::kEndStream) != 0) answer.ended = true;
  }
  static std::string ReasonIn(const std::string& details) {
    google::rpc::Status status;
    EXPECT_TRUE(status.ParseFromString(DecodeBinary(details).value_or("?")));
    google::rpc::ErrorInfo info;
    for (const auto& detail : status.details()) {
      if (detail.UnpackTo(&info) && info.domain() == "hotline") break;
    }
    return info.reason();
  }
  static void TakeMessages(std::string* body, std::vector<std::string>* out) {
    MessageReader reader(GrpcEncoding::kIdentity, 64 << 20);
    std::string_view message;
    reader.Add(*body);
    size_t used = 0;
    while (reader.Next(&message) == MessageReader::Result::kMessage) {
      out->emplace_back(message);
      used += MessagePrefix().size() + message.size();
    }
    body->erase(0, used);
  }

  int fd_;
  const std::unique_ptr<net::TlsEngine> tls_;
  std::string received_;
  net::OutReader reader_;
  std::map<uint32_t, Answer> answers_;
  std::map<uint32_t, std::string> bodies_;
};

class FrontTest : public BrokerTest {
 protected:
  void SetUp() override {
    BrokerTest::SetUp();
    auto door = FrontDoor::Bind({});
    ASSERT_TRUE(door.ok()) << door.status();
    door_ = *std::move(door);
    health_.Set("", true);
    parts_.broker = broker_.get();
    parts_.metrics = &rpc_metrics_;
    parts_.door = door_.get();
    parts_.health = &health_;
    parts_.reflection = &reflection_;
    front_ = std::make_unique<FrontLoop>(upstream_->loops().front(), &parts_);
  }

  void TearDown() override {
    front_->CutOff();
    EXPECT_TRUE(hotline::Eventually([&] { return front_->idle(); }));
    BrokerTest::TearDown();
  }

  // A caller whose connection is served.
  std::unique_ptr<RawCaller> Caller(
      Listener::Kind kind = Listener::Kind::kLoopback,
      std::unique_ptr<net::TlsEngine> tls = nullptr) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Visitor visitor;
    visitor.kind = kind;
    visitor.peer = "test";
    front_->Deliver(ends[0], visitor);
    return std::make_unique<RawCaller>(ends[1], std::move(tls));
  }
  std::unique_ptr<RawCaller> Connected() {
    auto caller = Caller();
    caller->Connect();
    return caller;
  }

  uint64_t Refused(Refusal why) const {
    return door_->counts().refused[static_cast<size_t>(why)];
  }
  bool Closed() {
    return hotline::Eventually([&] { return front_->connections() == 0; });
  }

  RpcMetrics rpc_metrics_;
  std::unique_ptr<FrontDoor> door_;
  HealthTable health_;
  const Reflection reflection_{{"hotline.v1.Broker", "grpc.health.v1.Health"}};
  FrontParts parts_;
  std::unique_ptr<FrontLoop> front_;
};

}  // namespace hotline::server

#endif  // HOTLINE_TESTS_SERVER_FRONT_FRONT_FIXTURE_H_
