// Puts pairs of Acquire and Release on a broker over unary calls, at little
// cost of its own: gRPC's C++ client would take three times the CPU of the
// broker that it measures. One thread.
//
//   lease_load PORT TARGET CONNECTIONS STREAMS SECONDS
//
// The broker listens on 127.0.0.1. Each of the CONNECTIONS has STREAMS pairs in
// progress: a pair begins when the one before it has ended. Prints a JSON
// object: pairs completed and those per second, and a pair's latency. A failed
// call ends the program.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "hotline/v1/broker.pb.h"
#include "upstream/codec/http2.h"

namespace hotline {
namespace {

using Clock = std::chrono::steady_clock;
using upstream::StreamId;

[[noreturn]] void Fail(const std::string& why) {
  std::fprintf(stderr, "lease_load: %s\n", why.c_str());
  std::exit(1);
}

// A message with gRPC's prefix.
std::string Framed(const google::protobuf::MessageLite& message) {
  std::string out(5, '\0');
  message.AppendToString(&out);
  const size_t size = out.size() - 5;
  for (int i = 0; i < 4; ++i)
    out[1 + i] = static_cast<char>(size >> (24 - 8 * i));
  return out;
}

struct Figures {
  Clock::time_point end;
  int64_t pairs = 0;
  int64_t in_time = 0;
  std::vector<int64_t> latency_us;
};

// One connection to the broker.
class Caller final : public upstream::CodecEvents,
                     public upstream::Http2Events {
 public:
  Caller(int port, const std::string& target, Figures* figures)
      : figures_(figures), socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    v1::AcquireRequest acquire;
    acquire.set_target(target);
    acquire_ = Framed(acquire);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address),
                sizeof address) != 0) {
      Fail("cannot connect");
    }
    codec_ = upstream::MakeHttp2Codec(this, this, "http");
    Write();
    while (!codec_->CanSubmit()) Read();
  }
  ~Caller() override { close(socket_); }

  int socket() const { return socket_; }
  size_t open() const { return pairs_.size(); }

  void Begin(int pairs) {
    for (int i = 0; i < pairs; ++i) BeginPair();
    Write();
  }

  // Reads what there is, and continues the pairs whose calls have ended.
  void Read() {
    char buffer[64 << 10];
    const ssize_t size = recv(socket_, buffer, sizeof buffer, 0);
    if (size <= 0) Fail("the broker closed a connection");
    if (!codec_->Feed({buffer, static_cast<size_t>(size)})) {
      Fail(codec_->error().message);
    }
    for (Pair& pair : answered_) Continue(std::move(pair));
    answered_.clear();
    Write();
  }

  void OnHead(StreamId stream, int status,
              std::vector<upstream::Header> headers) override {
    if (status != 200) Fail("HTTP status " + std::to_string(status));
    CheckStatus(headers);
    static_cast<void>(stream);
  }
  void OnBody(StreamId stream, std::string_view piece) override {
    pairs_[stream].answer += piece;
  }
  void OnTrailers(StreamId, std::vector<upstream::Header> trailers) override {
    CheckStatus(trailers);
  }
  void OnComplete(StreamId stream) override {
    auto pair = pairs_.extract(stream);
    answered_.push_back(std::move(pair.mapped()));
  }
  void OnStreamError(StreamId, upstream::CallError, upstream::Verdict,
                     std::string message) override {
    Fail(message);
  }

 private:
  struct Pair {
    Clock::time_point begin{};
    bool releasing = false;
    std::string answer{};
  };

  static void CheckStatus(const std::vector<upstream::Header>& fields) {
    for (const upstream::Header& field : fields) {
      if (field.name == "grpc-status" && field.value != "0") {
        Fail("a call ended with status " + field.value);
      }
    }
  }

  void BeginPair() {
    Call("/hotline.v1.Broker/Acquire", acquire_, {Clock::now()});
  }

  void Continue(Pair pair) {
    if (!pair.releasing) {
      v1::AcquireResponse acquired;
      if (pair.answer.size() < 5 ||
          !acquired.ParseFromArray(pair.answer.data() + 5,
                                   static_cast<int>(pair.answer.size() - 5))) {
        Fail("an answer to Acquire that is none");
      }
      v1::ReleaseRequest release;
      release.set_lease_id(acquired.lease().lease_id());
      return Call("/hotline.v1.Broker/Release", Framed(release),
                  {pair.begin, true});
    }
    const auto now = Clock::now();
    ++figures_->pairs;
    if (now >= figures_->end) return;
    ++figures_->in_time;
    figures_->latency_us.push_back(
        std::chrono::duration_cast<std::chrono::microseconds>(now - pair.begin)
            .count());
    BeginPair();
  }

  void Call(const char* path, const std::string& message, Pair pair) {
    static constexpr upstream::HeaderView kHeaders[] = {
        {"content-type", "application/grpc"},
        {"te", "trailers"},
        {"user-agent", "lease_load"}};
    if (!codec_->CanSubmit()) Fail("more streams than the broker allows");
    pairs_[codec_->Submit({.method = "POST",
                           .authority = "localhost",
                           .path = path,
                           .headers = kHeaders,
                           .body = message})] = std::move(pair);
  }

  void Write() {
    while (codec_->WantsWrite()) {
      out_.clear();
      codec_->TakeOutput(&out_);
      for (size_t sent = 0; sent < out_.size();) {
        const ssize_t size =
            send(socket_, out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL);
        if (size <= 0) Fail("cannot write");
        sent += static_cast<size_t>(size);
        codec_->OnWritten(static_cast<size_t>(size));
      }
    }
  }

  Figures* const figures_;
  const int socket_;
  std::unique_ptr<upstream::Codec> codec_;
  std::string acquire_;
  std::string out_;
  std::unordered_map<StreamId, Pair> pairs_;
  std::vector<Pair> answered_;
};

void Run(const std::vector<std::unique_ptr<Caller>>& callers) {
  std::vector<pollfd> sockets;
  for (const auto& caller : callers) {
    sockets.push_back({caller->socket(), POLLIN, 0});
  }
  const auto busy = [](const auto& caller) { return caller->open() > 0; };
  while (std::any_of(callers.begin(), callers.end(), busy)) {
    if (poll(sockets.data(), sockets.size(), 10'000) <= 0) {
      Fail("no answer for 10 s");
    }
    for (size_t i = 0; i < sockets.size(); ++i) {
      if (sockets[i].revents != 0) callers[i]->Read();
    }
  }
}

int Main(char** argv) {
  const int streams = std::atoi(argv[4]);
  const double seconds = std::atof(argv[5]);
  Figures figures;
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < std::atoi(argv[3]); ++i) {
    callers.push_back(
        std::make_unique<Caller>(std::atoi(argv[1]), argv[2], &figures));
  }
  figures.end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                   std::chrono::duration<double>(seconds));
  for (const auto& caller : callers) caller->Begin(streams);
  Run(callers);
  auto& latency = figures.latency_us;
  if (latency.empty()) Fail("no pair ended in time");
  std::sort(latency.begin(), latency.end());
  std::printf(
      "{\"ok\": %ld, \"rate\": %.1f, \"latency_us\": {\"p50\": %ld, \"p99\": "
      "%ld}}\n",
      static_cast<long>(figures.pairs),
      static_cast<double>(figures.in_time) / seconds,
      static_cast<long>(latency[latency.size() / 2]),
      static_cast<long>(latency[latency.size() * 99 / 100]));
  return 0;
}

}  // namespace
}  // namespace hotline

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr,
                 "usage: lease_load PORT TARGET CONNECTIONS STREAMS SECONDS\n");
    return 2;
  }
  return hotline::Main(argv);
}
