// What tests of upstream/ stand on: a pool that only takes notes, and verbs
// that wait for what must happen.
#ifndef HOTLINE_TESTS_UPSTREAM_UPSTREAM_FIXTURE_H_
#define HOTLINE_TESTS_UPSTREAM_UPSTREAM_FIXTURE_H_

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "pool/transport.h"
#include "pool/types.h"
#include "tests/fakes/scripted_peer.h"
#include "tests/fakes/test_certs.h"
#include "upstream/upstream.h"

namespace hotline::upstream {

using ::hotline::testing::AlwaysAnswer;
using ::hotline::testing::CertFiles;
using ::hotline::testing::OkResponse;
using ::hotline::testing::PeerConnection;
using ::hotline::testing::ScriptedPeer;
using ::hotline::testing::TestCa;

// After that a test gives up: nothing here takes longer than milliseconds.
inline constexpr auto kPatience = std::chrono::seconds(20);

struct DialOutcome {
  pool::ConnId conn = 0;  // 0: failed.
  pool::DialError error;
  pool::DialTimings timings;
  int max_streams = 0;
  explicit operator bool() const { return conn != 0; }
};

// Writes down what the transport tells, and how often.
class NotingPool final : public pool::TransportEvents {
 private:
  template <typename F>
  void Note(F&& write) {
    std::lock_guard lock(mu_);
    write();
    changed_.notify_all();
  }
  template <typename F>
  auto Look(F&& read) {
    std::lock_guard lock(mu_);
    return read();
  }
  template <typename F>
  void Await(F&& condition) {
    std::unique_lock lock(mu_);
    ASSERT_TRUE(changed_.wait_for(lock, kPatience, condition));
  }

 public:
  void Dialed(pool::ConnId id, const pool::Established& e, Instant) override {
    Note([&] {
      ++answers_[id];
      dials_[id] = {id, {}, e.timings, e.max_streams};
    });
  }
  void DialFailed(pool::ConnId id, const pool::DialError& error,
                  Instant) override {
    Note([&] {
      ++answers_[id];
      dials_[id] = {0, error, {}, 0};
    });
  }
  void Closed(pool::ConnId id, pool::CloseReason reason,
              const pool::DialError* early, Instant) override {
    Note([&] {
      if (early != nullptr) early_[id] = *early;
      ++closes_[id];
      closed_[id] = reason;
    });
  }
  void Probed(pool::ConnId id, bool passed, Instant) override {
    Note([&] { probes_.push_back({id, passed}); });
  }
  void ConcurrencyChanged(pool::ConnId id, int streams, Instant) override {
    Note([&] { streams_[id] = streams; });
  }
  void GoAway(pool::ConnId id, const pool::DialError* early, Instant) override {
    Note([&] {
      if (early != nullptr) early_[id] = *early;
      ++goaways_[id];
    });
  }
  void Served(pool::ConnId id, Instant) override {
    Note([&] { ++served_[id]; });
  }
  void ErrorCounted(pool::ConnId id, Instant) override {
    Note([&] { ++errors_[id]; });
  }
  void KeepAliveSaid(pool::ConnId id, Duration timeout, Instant) override {
    Note([&] { said_[id].push_back(timeout); });
  }

  DialOutcome AwaitDial(pool::ConnId id) {
    Await([&] { return answers_[id] > 0; });
    return dials_[id];
  }
  pool::CloseReason AwaitClosed(pool::ConnId id) {
    Await([&] { return closes_[id] > 0; });
    return closed_[id];
  }
  bool AwaitProbe(pool::ConnId id, size_t count = 1) {
    Await([&] { return probes_.size() >= count; });
    EXPECT_EQ(id, probes_[count - 1].first);
    return probes_[count - 1].second;
  }
  void AwaitStreams(pool::ConnId id, int streams) {
    Await([&] { return streams_.contains(id) && streams_[id] == streams; });
  }
  void AwaitGoAway(pool::ConnId id) {
    Await([&] { return goaways_[id] > 0; });
  }
  int goaways(pool::ConnId id) {
    return Look([&] { return goaways_[id]; });
  }
  int errors(pool::ConnId id) {
    return Look([&] { return errors_[id]; });
  }
  std::vector<Duration> said(pool::ConnId id) {
    return Look([&] { return said_[id]; });
  }
  // Of one that ended on probation; a message that is empty: of none.
  pool::DialError early(pool::ConnId id) {
    return Look([&] { return early_[id]; });
  }
  int served(pool::ConnId id) {
    return Look([&] { return served_[id]; });
  }
  int answers(pool::ConnId id) {
    return Look([&] { return answers_[id]; });
  }
  int closes(pool::ConnId id) {
    return Look([&] { return closes_[id]; });
  }
  size_t probes() {
    return Look([&] { return probes_.size(); });
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::map<pool::ConnId, int> answers_;
  std::map<pool::ConnId, DialOutcome> dials_;
  std::map<pool::ConnId, int> closes_;
  std::map<pool::ConnId, int> streams_;
  std::map<pool::ConnId, int> goaways_;
  std::map<pool::ConnId, std::vector<Duration>> said_;
  std::map<pool::ConnId, int> errors_;
  std::map<pool::ConnId, int> served_;
  std::map<pool::ConnId, pool::DialError> early_;
  std::map<pool::ConnId, pool::CloseReason> closed_;
  std::vector<std::pair<pool::ConnId, bool>> probes_;
};

// One call's end, to be waited for.
class Ending final : public CallHandler {
 public:
  void OnDone(CallResult result) override {
    std::lock_guard lock(mu_);
    ++count_;
    result_ = std::move(result);
    changed_.notify_all();
  }
  const CallResult& Await() {
    std::unique_lock lock(mu_);
    if (!changed_.wait_for(lock, kPatience, [&] { return count_ > 0; })) {
      ADD_FAILURE() << "the call does not end";
    }
    return result_;
  }
  int count() {
    std::lock_guard lock(mu_);
    return count_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  int count_ = 0;
  CallResult result_;
};

inline const TestCa& SharedCa() {
  static const auto* const ca = new TestCa("shared");
  return *ca;
}
inline const CertFiles& LocalhostCert() {
  static const auto* const cert =
      new CertFiles(SharedCa().Issue("localhost", "DNS:localhost"));
  return *cert;
}

class UpstreamTest : public ::testing::Test {
 protected:
  UpstreamTest() {
    options_.egress.allow = {"127.0.0.0/8", "::1"};
    options_.ca_file = SharedCa().cert();
    options_.target_policy = [this](const std::string&) { return policy_; };
  }
  ~UpstreamTest() override {
    if (upstream_ == nullptr) return;
    upstream_->Stop();
    // Whatever was opened has been closed, once.
    for (const pool::ConnId id : opened_) EXPECT_EQ(1, pool_.closes(id));
  }

  Upstream& upstream() {
    if (upstream_ == nullptr) {
      auto made = Upstream::Create(options_);
      EXPECT_TRUE(made.ok()) << made.status();
      upstream_ = *std::move(made);
      upstream_->Start(&pool_, [this](int shard, Instant now) {
        if (tick_) tick_(shard, now);
      });
    }
    return *upstream_;
  }

  pool::ConnId BeginDial(const std::string& target,
                         const std::string& sni = "") {
    auto key = std::make_shared<pool::HostPoolKey>();
    key->target = target;
    key->options.sni = sni;
    key->options.alpn = alpn_;
    key->options.tls_profile = tls_profile_;
    key->options.pool_group = pool_group_;
    key->options.remote_ip = remote_ip_;
    key->options.source_ip = source_ip_;
    keys_[++last_id_] = key;
    upstream().Dial(last_id_, key, pool::kNoLoop);
    return last_id_;
  }
  DialOutcome Dial(const std::string& target, const std::string& sni = "") {
    const pool::ConnId id = BeginDial(target, sni);
    const DialOutcome outcome = pool_.AwaitDial(id);
    if (outcome) opened_.insert(id);
    return outcome;
  }
  // The reason why it failed; "" when it did not.
  std::string DialReason(const std::string& target,
                         const std::string& sni = "") {
    const DialOutcome outcome = Dial(target, sni);
    message_ = outcome.error.message;
    return outcome ? "" : outcome.error.reason;
  }
  // REQUIRES: the dial succeeds.
  pool::ConnId Connect(const std::string& target) {
    const DialOutcome outcome = Dial(target);
    EXPECT_TRUE(outcome) << outcome.error.reason << ": "
                         << outcome.error.message;
    return outcome.conn;
  }
  pool::ConnId Connect(const ScriptedPeer& peer) {
    return Connect(peer.target());
  }

  CallId Start(pool::ConnId conn, Ending* ending, Request request = {}) {
    if (request.authority.empty()) request.authority = "localhost";
    return upstream().StartCall(conn, request, ending, MonotonicNow());
  }
  CallResult Run(pool::ConnId conn, const Request& request = {}) {
    Ending ending;
    Start(conn, &ending, request);
    return ending.Await();
  }

  pool::CloseReason AwaitClosed() { return pool_.AwaitClosed(last_id_); }
  void Probe(pool::ConnId conn) { upstream().Probe(conn, keys_[conn]); }

  Options options_;
  TargetPolicy policy_;
  std::string alpn_;  // Of the dials from now on, as the next two.
  std::string tls_profile_;
  std::string pool_group_;
  std::string remote_ip_;
  std::string source_ip_;
  std::function<void(int, Instant)> tick_;
  NotingPool pool_;
  std::unique_ptr<Upstream> upstream_;
  pool::ConnId last_id_ = 0;
  std::set<pool::ConnId> opened_;
  std::map<pool::ConnId, std::shared_ptr<const pool::HostPoolKey>> keys_;
  std::string message_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_TESTS_UPSTREAM_UPSTREAM_FIXTURE_H_
