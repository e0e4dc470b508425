// Full dials (resolve, choose, TCP, TLS 1.3, ALPN) by Upstream, one loop, as
// many at once as asked for; each connection is closed as soon as it stands.
// Prints dials per second of this process's CPU time. bench/dials runs it
// against bench/dial_bare.cc, which does the same with BoringSSL alone.
//
//   dial_bench TARGET CA_FILE DIALS [AT_ONCE]

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "bench/cpu_seconds.h"
#include "pool/transport.h"
#include "upstream/upstream.h"

namespace hotline::upstream {
namespace {

// Dials again whenever one has ended, until all are done.
class Dialler final : public pool::TransportEvents {
 public:
  Dialler(std::string target, int dials) : left_(dials), open_(dials) {
    key_ = std::make_shared<pool::HostPoolKey>();
    key_->target = std::move(target);
  }

  void Run(Upstream* upstream, int at_once) {
    upstream_ = upstream;
    for (int i = 0; i < at_once; ++i) DialNext();
    std::unique_lock lock(mu_);
    done_.wait(lock, [this] { return open_ == 0; });
  }
  int failed() const { return failed_; }

  void Dialed(pool::ConnId id, const pool::Established&, Instant) override {
    upstream_->Close(id, pool::CloseReason::kIdle);
  }
  void DialFailed(pool::ConnId, const pool::DialError& error,
                  Instant) override {
    std::fprintf(stderr, "%s: %s\n", error.reason, error.message.c_str());
    ++failed_;
    Ended();
  }
  void Closed(pool::ConnId, pool::CloseReason, const pool::DialError*,
              Instant) override {
    Ended();
  }
  void Served(pool::ConnId, Instant) override {}
  void Probed(pool::ConnId, bool, Instant) override {}
  void ConcurrencyChanged(pool::ConnId, int, Instant) override {}
  void GoAway(pool::ConnId, const pool::DialError*, Instant) override {}
  void KeepAliveSaid(pool::ConnId, Duration, Instant) override {}
  void ErrorCounted(pool::ConnId, Instant) override {}

 private:
  void DialNext() {
    pool::ConnId id;
    {
      std::lock_guard lock(mu_);
      if (left_ == 0) return;
      id = left_--;
    }
    upstream_->Dial(id, key_, pool::kNoLoop);
  }
  void Ended() {
    DialNext();
    std::lock_guard lock(mu_);
    if (--open_ == 0) done_.notify_all();
  }

  Upstream* upstream_ = nullptr;
  std::shared_ptr<pool::HostPoolKey> key_;
  std::mutex mu_;
  std::condition_variable done_;
  int left_;
  int open_;
  int failed_ = 0;
};

int Main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "dial_bench TARGET CA_FILE DIALS [AT_ONCE]\n");
    return 2;
  }
  const int dials = std::atoi(argv[3]);
  Options options;
  options.ca_file = argv[2];
  options.egress.allow = {"127.0.0.0/8", "::1"};
  // Full handshakes, as those it is compared with.
  options.max_tls_sessions = 0;
  auto upstream = Upstream::Create(options);
  if (!upstream.ok()) {
    std::fprintf(stderr, "%s\n", upstream.status().ToString().c_str());
    return 1;
  }
  Dialler dialler(argv[1], dials);
  (*upstream)->Start(&dialler, [](int, Instant) {});
  const double before = CpuSeconds();
  dialler.Run(upstream->get(), argc > 4 ? std::atoi(argv[4]) : 1);
  const double cpu = CpuSeconds() - before;
  (*upstream)->Stop();
  std::printf("%.0f dials per CPU second\n", dials / cpu);
  return dialler.failed() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace hotline::upstream

int main(int argc, char** argv) { return hotline::upstream::Main(argc, argv); }
