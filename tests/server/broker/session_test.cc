// Sessions over a transport that the test implements, and a real pool.
#include "server/broker/session.h"

#include <atomic>
#include <deque>
#include <map>
#include <set>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

// The caller's end of a session.
class TestStream : public SessionTransport {
 public:
  void Read(v1::SessionRequest* into) override {
    std::lock_guard lock(mu_);
    into_ = into;
    ++reads_;
    cv_.notify_all();
  }
  void Write(const std::string* encoded) override {
    v1::SessionResponse message;
    EXPECT_TRUE(message.ParseFromString(*encoded));
    {
      std::lock_guard lock(mu_);
      EXPECT_FALSE(finished_);
      messages_.push_back(message.results_size());
      for (const auto& result : message.results()) {
        v1::SessionResult& mine = results_[result.id()];
        EXPECT_TRUE(mine.id() == 0 || ReasonOf(mine) == "DUPLICATE_ITEM_ID");
        mine = result;
      }
      cv_.notify_all();
      if (slow_) {
        ++unwritten_;
        return;
      }
    }
    session->OnWritten();
  }
  void Yield() override {
    std::lock_guard lock(mu_);
    ++yields_;
    cv_.notify_all();
  }
  void Finish(ErrorPtr error) override {
    std::lock_guard lock(mu_);
    EXPECT_FALSE(finished_);
    finished_ = true;
    outcome_ = error == nullptr ? "OK" : error->reason;
    cv_.notify_all();
  }

  static std::string ReasonOf(const v1::SessionResult& result) {
    if (!result.has_error()) return "OK";
    google::rpc::ErrorInfo info;
    EXPECT_TRUE(result.error().details(0).UnpackTo(&info));
    EXPECT_EQ(info.domain(), "hotline");
    return info.reason();
  }

  // --- The caller's actions ---

  // Sends a message once the session reads. False: it does not read.
  bool Send(const v1::SessionRequest& message) {
    {
      std::unique_lock lock(mu_);
      if (!Await(lock, [this] { return into_ != nullptr || finished_; }) ||
          finished_) {
        return false;
      }
      *std::exchange(into_, nullptr) = message;
    }
    session->OnRead(true, MonotonicNow());
    return true;
  }
  void HalfClose() {
    {
      std::unique_lock lock(mu_);
      ASSERT_TRUE(Await(lock, [this] { return into_ != nullptr; }));
      into_ = nullptr;
    }
    session->OnRead(false, MonotonicNow());
  }
  // Reads no results until Resume.
  void Stall() {
    std::lock_guard lock(mu_);
    slow_ = true;
  }
  void Resume() {
    bool owed;
    {
      std::lock_guard lock(mu_);
      slow_ = false;
      owed = std::exchange(unwritten_, 0) > 0;
    }
    if (owed) session->OnWritten();
  }
  // Runs the next turn of the session, if it has asked for one.
  bool Turn() {
    {
      std::lock_guard lock(mu_);
      if (yields_ == turns_) return false;
      ++turns_;
    }
    session->OnTurn();
    return true;
  }

  // --- The caller's observations ---

  // "OK", or the error's reason; "NOTHING" if there is no result in time.
  std::string Result(uint64_t id, v1::SessionResult* out = nullptr) {
    std::unique_lock lock(mu_);
    if (!Await(lock, [&] { return results_.count(id) > 0; })) return "NOTHING";
    if (out != nullptr) *out = results_[id];
    return ReasonOf(results_[id]);
  }
  std::string Outcome() {
    std::unique_lock lock(mu_);
    Await(lock, [this] { return finished_; });
    return outcome_;
  }
  bool reading() {
    std::lock_guard lock(mu_);
    return into_ != nullptr;
  }
  bool finished() {
    std::lock_guard lock(mu_);
    return finished_;
  }
  size_t results() {
    std::lock_guard lock(mu_);
    return results_.size();
  }
  std::vector<int> messages() {
    std::lock_guard lock(mu_);
    return messages_;
  }
  int yields() {
    std::lock_guard lock(mu_);
    return yields_;
  }

  std::shared_ptr<Session> session;

 private:
  template <typename Condition>
  bool Await(std::unique_lock<std::mutex>& lock, Condition condition) {
    return cv_.wait_for(lock, std::chrono::seconds(30), condition);
  }

  std::mutex mu_;
  std::condition_variable cv_;
  v1::SessionRequest* into_ = nullptr;
  std::map<uint64_t, v1::SessionResult> results_;
  std::vector<int> messages_;  // The number of results in each message.
  int reads_ = 0;
  int yields_ = 0;
  int turns_ = 0;
  int unwritten_ = 0;
  bool slow_ = false;
  bool finished_ = false;
  std::string outcome_ = "OPEN";
};

// Builds a SessionRequest.
class Message {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): used as one.
  operator const v1::SessionRequest&() const { return proto_; }

  v1::SessionItem* Item(uint64_t id) {
    v1::SessionItem* item = proto_.add_items();
    item->set_id(id);
    return item;
  }
  Message& Acquire(uint64_t id, const std::string& target) {
    Item(id)->mutable_acquire()->set_target(target);
    return *this;
  }
  Message& Release(uint64_t id, const std::string& lease) {
    Item(id)->mutable_release()->set_lease_id(lease);
    return *this;
  }
  Message& Execute(uint64_t id, const ScriptedPeer& peer,
                   const std::string& lease = "") {
    v1::ExecuteRequest* execute = Item(id)->mutable_execute();
    execute->set_url(peer.target() + "/");
    execute->set_lease_id(lease);
    return *this;
  }
  Message& Cancel(uint64_t id, uint64_t other) {
    Item(id)->mutable_cancel()->set_id(other);
    return *this;
  }

 private:
  v1::SessionRequest proto_;
};

void NeverAnswer(PeerConnection& connection) {
  connection.ReadRequest();
  connection.AwaitClose();
}

class SessionTest : public BrokerTest {
 protected:
  SessionTest() { target_config_.max_connections = 100; }

  // Ends sessions that a test left open, as if their callers were killed.
  void TearDown() override {
    for (auto& stream : streams_) {
      stream.session->OnCancel();
      EXPECT_NE(stream.Outcome(), "OPEN");
    }
    EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
      for (const auto& row : snapshot.targets) {
        if (row.leases > 0 || row.waiters > 0) return false;
      }
      return true;
    }));
    EXPECT_EQ(Sessions(), 0);
    BrokerTest::TearDown();
  }

  TestStream& Open(Instant deadline = kNever) {
    TestStream& stream = streams_.emplace_back();
    CallContext context;
    context.arrival = MonotonicNow();
    context.deadline = deadline;
    stream.session = Session::Start(broker_.get(), context, &stream);
    return stream;
  }
  static CallContext Now() {
    CallContext context;
    context.arrival = MonotonicNow();
    return context;
  }
  int64_t Sessions() {
    v1::StatsResponse stats;
    EXPECT_EQ(broker_->Stats({}, &stats, Now()), nullptr);
    return stats.totals().sessions();
  }
  // The id of a lease acquired as item `id`.
  std::string Lease(TestStream& stream, uint64_t id,
                    const std::string& target) {
    EXPECT_TRUE(stream.Send(Message().Acquire(id, target)));
    v1::SessionResult result;
    EXPECT_EQ(stream.Result(id, &result), "OK");
    return result.acquire().lease().lease_id();
  }
  uint64_t Reclaimed() {
    uint64_t n = 0;
    for (const auto& row : Look().targets) n += row.counters.leases_reclaimed;
    return n;
  }
  int Held() {
    int n = 0;
    for (const auto& row : Look().targets) n += row.leases;
    return n;
  }

  std::deque<TestStream> streams_;
};

TEST_F(SessionTest, ReleasesByTheRequestIdOfAnAcquire) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  target_config_.max_connections = 1;
  TestStream& stream = Open();
  const auto acquire = [&](uint64_t id, const char* name) {
    Message message;
    v1::AcquireRequest* request = message.Item(id)->mutable_acquire();
    request->set_target(peer.target());
    request->set_request_id(name);
    return stream.Send(message);
  };
  const auto release = [&](uint64_t id, const char* name) {
    Message message;
    v1::ReleaseRequest* request = message.Item(id)->mutable_release();
    request->set_target(peer.target());
    request->set_request_id(name);
    EXPECT_TRUE(stream.Send(message));
    return stream.Result(id);
  };
  ASSERT_TRUE(acquire(1, "held"));
  ASSERT_EQ(stream.Result(1), "OK");
  ASSERT_TRUE(acquire(2, "waits"));
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets.at(0).waiters == 1;
  }));
  EXPECT_EQ(release(3, "waits"), "OK");
  EXPECT_EQ(stream.Result(2), "SUPERSEDED");
  EXPECT_EQ(release(4, "held"), "OK");
  EXPECT_EQ(Held(), 0);
  // The session has no lease left, so a drain ends it.
  broker_->StartDrain(MonotonicNow());
  EXPECT_EQ(stream.Outcome(), "DRAINING");
  EXPECT_EQ(Reclaimed(), 0u);
}

TEST_F(SessionTest, AcquiresExecutesAndReleases) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  TestStream& stream = Open();
  const std::string lease = Lease(stream, 1, peer.target());
  ASSERT_TRUE(stream.Send(Message().Execute(2, peer, lease)));
  v1::SessionResult result;
  ASSERT_EQ(stream.Result(2, &result), "OK");
  EXPECT_EQ(result.execute().body(), "hello");
  Message rest;
  rest.Release(3, lease).Release(4, lease);
  rest.Item(5)->mutable_renew()->set_lease_id(lease);
  ASSERT_TRUE(stream.Send(rest));
  ASSERT_EQ(stream.Result(3, &result), "OK");
  EXPECT_FALSE(result.release().already_released());
  ASSERT_EQ(stream.Result(4, &result), "OK");
  EXPECT_TRUE(result.release().already_released());
  EXPECT_EQ(stream.Result(5), "LEASE_EXPIRED");
  // An acquire that is granted at once, and an execute in the same message.
  Message both;
  both.Acquire(6, peer.target()).Execute(7, peer);
  ASSERT_TRUE(stream.Send(both));
  ASSERT_EQ(stream.Result(6, &result), "OK");
  EXPECT_TRUE(result.acquire().connection().reused());
  EXPECT_EQ(stream.Result(7), "OK");
  stream.HalfClose();
  EXPECT_EQ(stream.Outcome(), "OK");
  EXPECT_EQ(Held(), 0);
  EXPECT_EQ(Reclaimed(), 1u);
}

TEST_F(SessionTest, BadItemsGetTypedErrorsAndChangeNothing) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  const std::string lease = Lease(stream, 1, peer.target());
  struct Case {
    const char* reason;
    std::function<void(v1::SessionItem*)> make;
  };
  std::string forged = lease;
  forged.back() = forged.back() == '0' ? '1' : '0';
  const Case cases[] = {
      {"BAD_ITEM", [](auto*) {}},
      {"BAD_TARGET",
       [](auto* i) { i->mutable_acquire()->set_target("ftp://x"); }},
      {"BAD_TARGET", [](auto* i) { i->mutable_acquire(); }},
      {"BAD_OPTION",
       [&](auto* i) {
         i->mutable_acquire()->set_target(peer.target());
         i->mutable_acquire()->mutable_options()->set_sni("a.b");
       }},
      {"BAD_LEASE_ID", [](auto* i) { i->mutable_release(); }},
      {"LEASE_UNKNOWN",
       [&](auto* i) { i->mutable_release()->set_lease_id(forged); }},
      {"BAD_OPTION",
       [&](auto* i) {
         i->mutable_release()->set_lease_id(lease);
         i->mutable_release()->set_outcome(static_cast<v1::Outcome>(77));
       }},
      {"BAD_LEASE_ID", [](auto* i) { i->mutable_renew(); }},
      {"BAD_OPTION",
       [&](auto* i) {
         i->mutable_renew()->set_lease_id(lease);
         i->mutable_renew()->mutable_lease_ttl()->set_seconds(-1);
       }},
      {"BAD_URL", [](auto* i) { i->mutable_execute(); }},
      {"BAD_HEADER",
       [&](auto* i) {
         i->mutable_execute()->set_url(peer.target() + "/");
         auto* header = i->mutable_execute()->add_headers();
         header->set_name("X");
         header->set_value("a\r\nb");
       }},
      {"LEASE_TARGET_MISMATCH",
       [&](auto* i) {
         i->mutable_execute()->set_url("http://127.0.0.1:1/");
         i->mutable_execute()->set_lease_id(lease);
       }},
  };
  Message message;
  uint64_t id = 100;
  for (const Case& c : cases) c.make(message.Item(id++));
  ASSERT_TRUE(stream.Send(message));
  id = 100;
  for (const Case& c : cases) EXPECT_EQ(stream.Result(id++), c.reason);
  Message nameless;
  nameless.Acquire(0, peer.target());
  ASSERT_TRUE(stream.Send(nameless));
  EXPECT_EQ(stream.Result(0), "BAD_ITEM_ID");
  EXPECT_EQ(Held(), 1);
  ASSERT_TRUE(stream.Send(Message().Execute(200, peer, lease)));
  EXPECT_EQ(stream.Result(200), "OK") << "the lease is as it was";
}

TEST_F(SessionTest, AnItemIdInFlightIsRefused) {
  ScriptedPeer peer(NeverAnswer);
  TestStream& stream = Open();
  ASSERT_TRUE(stream.Send(Message().Execute(1, peer)));
  ASSERT_TRUE(stream.Send(Message().Acquire(1, peer.target())));
  EXPECT_EQ(stream.Result(1), "DUPLICATE_ITEM_ID");
  ASSERT_TRUE(stream.Send(Message().Cancel(2, 1)));
  v1::SessionResult result;
  EXPECT_EQ(stream.Result(2, &result), "OK");
  EXPECT_TRUE(result.cancel().found()) << "the first one went on";
}

TEST_F(SessionTest, ACancelledItemEndsAndOthersContinue) {
  target_config_.max_connections = 1;
  Build();
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  const std::string lease = Lease(stream, 1, peer.target());
  ASSERT_TRUE(stream.Send(Message().Acquire(2, peer.target())));
  ASSERT_TRUE(stream.Send(Message().Cancel(3, 2).Cancel(4, 99)));
  EXPECT_EQ(stream.Result(2), "CANCELLED");
  v1::SessionResult result;
  ASSERT_EQ(stream.Result(4, &result), "OK");
  EXPECT_FALSE(result.cancel().found());
  ASSERT_TRUE(stream.Send(Message().Execute(5, peer, lease)));
  EXPECT_EQ(stream.Result(5), "OK");
}

TEST_F(SessionTest, TheLeasesOfAKilledCallerAreReleasedAtOnce) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  Message message;
  for (int i = 1; i <= 100; ++i) message.Acquire(i, peer.target());
  ASSERT_TRUE(stream.Send(message));
  while (stream.Turn()) {
  }
  for (int i = 1; i <= 100; ++i) ASSERT_EQ(stream.Result(i), "OK");
  EXPECT_EQ(Held(), 100);
  stream.session->OnCancel();
  EXPECT_EQ(Held(), 0);
  EXPECT_EQ(Reclaimed(), 100u);
  EXPECT_EQ(stream.Outcome(), "CANCELLED");
  // The connections are intact and serve other callers.
  EXPECT_EQ(Look().targets[0].idle, 100);
}

TEST_F(SessionTest, ALeaseUnderACallIsClosedWithItsSession) {
  ScriptedPeer peer(NeverAnswer);
  TestStream& stream = Open();
  const std::string lease = Lease(stream, 1, peer.target());
  ASSERT_TRUE(stream.Send(Message().Execute(2, peer, lease)));
  stream.session->OnCancel();
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets[0].leases == 0 && snapshot.targets[0].idle == 0;
  }));
}

TEST_F(SessionTest, AGrantAfterTheEndOfTheSessionIsReleased) {
  target_config_.max_connections = 1;
  Build();
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  auto holder = Acquire(peer.target());
  ASSERT_EQ(holder->Wait(), "OK");
  TestStream& stream = Open();
  ASSERT_TRUE(stream.Send(Message().Acquire(1, peer.target())));
  stream.session->OnCancel();
  EXPECT_EQ(Release(holder->response.lease().lease_id()), "OK");
  EXPECT_EQ(Held(), 0);
}

TEST_F(SessionTest, LimitsApplyItemByItem) {
  settings_.session = {.max_items_per_message = 4,
                       .max_items_in_flight = 2,
                       .max_leases = 3,
                       .max_buffered_bytes = 1 << 20};
  broker_->Reconfigure(settings_);
  ScriptedPeer silent(NeverAnswer);
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  // Items in flight.
  Message three;
  three.Execute(1, silent).Execute(2, silent).Execute(3, silent);
  ASSERT_TRUE(stream.Send(three));
  EXPECT_EQ(stream.Result(3), "QUOTA");
  ASSERT_TRUE(stream.Send(Message().Cancel(4, 1).Cancel(5, 2)));
  EXPECT_EQ(stream.Result(1), "CANCELLED");
  EXPECT_EQ(stream.Result(2), "CANCELLED");
  // Leases, including those being acquired.
  for (int i = 10; i < 13; ++i) Lease(stream, i, peer.target());
  ASSERT_TRUE(stream.Send(Message().Acquire(13, peer.target())));
  EXPECT_EQ(stream.Result(13), "QUOTA");
  EXPECT_EQ(Held(), 3);
  // Items per message.
  Message five;
  for (int i = 20; i < 25; ++i) five.Cancel(i, 99);
  ASSERT_TRUE(stream.Send(five));
  EXPECT_EQ(stream.Result(23), "OK");
  EXPECT_EQ(stream.Result(24), "QUOTA");
}

TEST_F(SessionTest, ExpiredLeasesMakeRoom) {
  settings_.session.max_leases = 2;
  settings_.lease_ttl = milliseconds(50);
  broker_->Reconfigure(settings_);
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  Lease(stream, 1, peer.target());
  Lease(stream, 2, peer.target());
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets[0].leases == 0;
  }));
  // The session checks for expired leases only from time to time.
  uint64_t id = 2;
  do {
    ASSERT_TRUE(stream.Send(Message().Acquire(++id, peer.target())));
  } while (stream.Result(id) == "QUOTA" && id < 1'000'000);
  EXPECT_EQ(stream.Result(id), "OK");
}

TEST_F(SessionTest, ALongMessageIsProcessedInTurns) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& flood = Open();
  TestStream& other = Open();
  Message message;
  for (int i = 1; i <= 1000; ++i) message.Cancel(i, 5000);
  ASSERT_TRUE(flood.Send(message));
  // The first turn is over and its results were sent; the other items wait.
  EXPECT_EQ(flood.yields(), 1);
  EXPECT_EQ(flood.results(), 256u);
  EXPECT_FALSE(flood.reading());
  ASSERT_TRUE(other.Send(Message().Acquire(1, peer.target())));
  EXPECT_EQ(other.Result(1), "OK");
  EXPECT_EQ(flood.results(), 256u);
  while (flood.Turn()) {
  }
  EXPECT_EQ(flood.results(), 1000u);
  EXPECT_EQ(flood.yields(), 3);
  EXPECT_TRUE(flood.reading());
}

TEST_F(SessionTest, CallsCostMoreOfATurnThanItemsAnsweredAtOnce) {
  ScriptedPeer peer(NeverAnswer);
  TestStream& stream = Open();
  Message message;
  for (int i = 1; i <= 40; ++i) message.Execute(i, peer);
  ASSERT_TRUE(stream.Send(message));
  EXPECT_EQ(stream.yields(), 1);
  while (stream.Turn()) {
  }
  EXPECT_EQ(stream.yields(), 2);
}

TEST_F(SessionTest, ResultsAreBatchedWhileAWriteIsUnderWay) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  stream.Stall();
  for (int i = 1; i <= 10; ++i) {
    ASSERT_TRUE(stream.Send(Message().Cancel(i, 99)));
  }
  EXPECT_EQ(stream.messages(), std::vector<int>{1});
  stream.Resume();
  EXPECT_EQ(stream.messages(), (std::vector<int>{1, 9}));
}

TEST_F(SessionTest, UnreadResultsStopTheReading) {
  settings_.session.max_buffered_bytes = 65536;
  broker_->Reconfigure(settings_);
  ScriptedPeer peer(AlwaysAnswer(OkResponse(std::string(20'000, 'x'))));
  TestStream& stream = Open();
  stream.Stall();
  uint64_t sent = 0;
  // Answers arrive at any time, until too many are unread.
  while (sent < 20) {
    if (!stream.reading()) break;
    ASSERT_TRUE(stream.Send(Message().Execute(++sent, peer)));
    const Instant end = MonotonicNow() + milliseconds(200);
    while (MonotonicNow() < end && stream.reading()) std::this_thread::yield();
  }
  EXPECT_LE(sent, 5u);
  EXPECT_GE(sent, 3u);
  stream.Resume();
  for (uint64_t id = 1; id <= sent; ++id) EXPECT_EQ(stream.Result(id), "OK");
  ASSERT_TRUE(stream.Send(Message().Execute(100, peer)));
  EXPECT_EQ(stream.Result(100), "OK");
}

TEST_F(SessionTest, LargeAnswersGoInMessagesOfTheirOwn) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse(std::string(300'000, 'x'))));
  TestStream& stream = Open();
  stream.Stall();
  Message message;
  for (int i = 1; i <= 4; ++i) message.Execute(i, peer);
  ASSERT_TRUE(stream.Send(message));
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    const pool::TargetRow& row = snapshot.targets[0];
    return row.leases == 0 && row.counters.granted == 4;
  }));
  stream.Resume();
  for (int i = 1; i <= 4; ++i) EXPECT_EQ(stream.Result(i), "OK");
  EXPECT_EQ(stream.messages(), (std::vector<int>{1, 1, 1, 1}));
}

TEST_F(SessionTest, AnItemsDeadlineIsItsOwnOrTheStreams) {
  ScriptedPeer peer(NeverAnswer);
  TestStream& stream = Open();
  Message message;
  v1::ExecuteRequest* execute = message.Item(1)->mutable_execute();
  execute->set_url(peer.target() + "/");
  execute->mutable_timeout()->set_nanos(200'000'000);
  ASSERT_TRUE(stream.Send(message));
  EXPECT_EQ(stream.Result(1), "UPSTREAM_TIMEOUT");
  TestStream& brief = Open(MonotonicNow() + milliseconds(300));
  ASSERT_TRUE(brief.Send(Message().Execute(1, peer)));
  EXPECT_EQ(brief.Result(1), "UPSTREAM_TIMEOUT");
}

TEST_F(SessionTest, ADrainEndsAnIdleSessionAtOnce) {
  TestStream& stream = Open();
  broker_->StartDrain(MonotonicNow());
  EXPECT_EQ(stream.Outcome(), "DRAINING");
  TestStream& late = Open();
  EXPECT_EQ(late.Outcome(), "DRAINING");
}

TEST_F(SessionTest, ASessionThatIsDeniedInADrainEndsOnce) {
  settings_.policy = CompilePolicy({.allow_by_default = false, .rules = {}});
  broker_->Reconfigure(settings_);
  broker_->StartDrain(MonotonicNow());
  EXPECT_EQ(Open().Outcome(), "NO_IDENTITY");
  settings_.policy = nullptr;  // For TearDown, which asks for Stats.
  broker_->Reconfigure(settings_);
}

TEST_F(SessionTest, ADrainWaitsForLeasesAndRefusesNewOnes) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  const std::string lease = Lease(stream, 1, peer.target());
  broker_->StartDrain(MonotonicNow());
  EXPECT_FALSE(stream.finished());
  Message message;
  message.Acquire(2, peer.target()).Execute(3, peer, lease);
  ASSERT_TRUE(stream.Send(message));
  EXPECT_EQ(stream.Result(2), "DRAINING");
  EXPECT_EQ(stream.Result(3), "OK");
  ASSERT_TRUE(stream.Send(Message().Release(4, lease)));
  EXPECT_EQ(stream.Result(4), "OK");
  EXPECT_EQ(stream.Outcome(), "DRAINING");
  EXPECT_TRUE(broker_->Drained(MonotonicNow()));
}

TEST_F(SessionTest, AHandOverEndsASessionOnceItHoldsNoLease) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& idle = Open();
  TestStream& stream = Open();
  const std::string first = Lease(stream, 1, peer.target());
  broker_->HandOver();
  EXPECT_EQ(idle.Outcome(), "DRAINING");
  // It is served meanwhile, also with new leases.
  const std::string second = Lease(stream, 2, peer.target());
  ASSERT_TRUE(stream.Send(Message().Execute(3, peer)));
  EXPECT_EQ(stream.Result(3), "OK");
  ASSERT_TRUE(stream.Send(Message().Release(4, first).Release(5, second)));
  EXPECT_EQ(stream.Result(5), "OK");
  EXPECT_EQ(stream.Outcome(), "DRAINING");
}

TEST_F(SessionTest, ASessionThatLeavesBeginsOnlyWhatItsLeasesNeed) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  const std::string lease = Lease(stream, 1, peer.target());
  broker_->HandOver();
  broker_->LeaveSessions();
  Message message;
  message.Acquire(2, peer.target()).Execute(3, peer, lease);
  ASSERT_TRUE(stream.Send(message));
  EXPECT_EQ(stream.Result(3), "OK");
  const size_t before = stream.results();
  ASSERT_TRUE(stream.Send(Message().Release(4, lease)));
  EXPECT_EQ(stream.Result(4), "OK");
  EXPECT_EQ(stream.Outcome(), "DRAINING");
  // The Acquire has no result: its caller repeats it elsewhere.
  EXPECT_EQ(stream.results(), before + 1);
}

TEST_F(SessionTest, ASessionThatLeavesReadsNoMoreBesideRunningCalls) {
  std::atomic<bool> arrived{false};
  ScriptedPeer silent([&](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    arrived = true;
    connection.AwaitClose();
  });
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  ASSERT_TRUE(stream.Send(Message().Execute(1, silent)));
  ASSERT_TRUE(
      Eventually([&](const pool::Snapshot&) { return arrived.load(); }));
  broker_->HandOver();
  broker_->LeaveSessions();
  // The read that was under way.
  ASSERT_TRUE(stream.Send(Message().Execute(2, peer)));
  EXPECT_EQ(stream.Result(2), "OK");
  EXPECT_FALSE(stream.reading());
  broker_->AbortCalls();
  EXPECT_EQ(stream.Result(1), "UPSTREAM_RESET");
  EXPECT_EQ(stream.Outcome(), "DRAINING");
}

TEST_F(SessionTest, AnAbortAnswersRunningCallsAndThenEnds) {
  std::atomic<bool> arrived{false};
  ScriptedPeer silent([&](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    arrived = true;
    connection.AwaitClose();
  });
  TestStream& stream = Open();
  ASSERT_TRUE(stream.Send(Message().Execute(1, silent)));
  ASSERT_TRUE(
      Eventually([&](const pool::Snapshot&) { return arrived.load(); }));
  broker_->StartDrain(MonotonicNow());
  EXPECT_FALSE(stream.finished());
  broker_->AbortCalls();
  EXPECT_EQ(stream.Result(1), "UPSTREAM_RESET");
  EXPECT_EQ(stream.Outcome(), "DRAINING");
}

TEST_F(SessionTest, StatsNameTheSessionOfALease) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  TestStream& stream = Open();
  Lease(stream, 1, peer.target());
  EXPECT_EQ(Sessions(), 1);
  v1::StatsRequest request;
  request.set_view(v1::STATS_VIEW_LEASES);
  v1::StatsResponse stats;
  ASSERT_EQ(broker_->Stats(request, &stats, Now()), nullptr);
  ASSERT_EQ(stats.leases_size(), 1);
  EXPECT_EQ(stats.leases(0).session(), 1u);
  stream.session->OnCancel();
  EXPECT_EQ(stream.Outcome(), "CANCELLED");
  v1::StatsResponse after;
  ASSERT_EQ(broker_->Stats({}, &after, Now()), nullptr);
  EXPECT_EQ(after.totals().counters().leases_reclaimed(), 1);
  EXPECT_EQ(after.totals().sessions(), 0);
}

// Threads cancel sessions at random moments.
TEST_F(SessionTest, ASessionCutAtAnyMomentLeavesNothing) {
  target_config_.max_connections = 4;
  Build();
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  for (int round = 0; round < 200; ++round) {
    TestStream& stream = Open();
    std::thread killer([&stream, round] {
      const Instant when =
          MonotonicNow() + std::chrono::microseconds(round * 10);
      while (MonotonicNow() < when) std::this_thread::yield();
      stream.session->OnCancel();
    });
    Message message;
    for (int i = 1; i <= 8; ++i) message.Acquire(i, peer.target());
    message.Execute(9, peer);
    if (stream.reading()) stream.Send(message);
    while (stream.Turn()) {
    }
    killer.join();
    EXPECT_EQ(stream.Outcome(), "CANCELLED");
  }
}

}  // namespace
}  // namespace hotline::server
