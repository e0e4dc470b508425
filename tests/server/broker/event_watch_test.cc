// WatchEvents over a real pool and upstream: what is seen, by whom, from where.
#include "server/broker/event_watch.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::seconds;
using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::ScriptedPeer;

class EventWatchTest : public BrokerTest {
 protected:
  // Null: refused, with the reason in refused_.
  std::unique_ptr<EventWatch> Watch(const v1::WatchEventsRequest& request,
                                    IdentityPtr who = nullptr) {
    CallContext context;
    context.arrival = MonotonicNow();
    context.identity = std::move(who);
    std::unique_ptr<EventWatch> watch;
    const ErrorPtr error = broker_->WatchEvents(request, context, &watch);
    refused_ = error == nullptr ? "" : error->reason;
    return error == nullptr ? std::move(watch) : nullptr;
  }
  // From now on; its first response has been read.
  std::unique_ptr<EventWatch> WatchNew(const std::string& target = "") {
    v1::WatchEventsRequest request;
    request.set_target(target);
    auto watch = Watch(request);
    v1::WatchEventsResponse first;
    EXPECT_EQ(watch->Next(&first), EventWatch::Step::kResponse);
    EXPECT_EQ(first.events_size(), 0);
    EXPECT_FALSE(first.has_gap());
    return watch;
  }
  static v1::WatchEventsRequest KeptOnly() {
    v1::WatchEventsRequest request;
    request.set_kept_only(true);
    return request;
  }

  // Reads what there is now. Appends to events_.
  EventWatch::Step ReadAll(EventWatch* watch) {
    for (;;) {
      v1::WatchEventsResponse response;
      const EventWatch::Step step = watch->Next(&response);
      if (step != EventWatch::Step::kResponse) return step;
      if (response.has_gap()) gaps_.push_back(response.gap());
      for (const v1::Event& event : response.events()) {
        events_.push_back(event);
      }
      sequence_ = response.sequence();
    }
  }
  // Waits for an event of this kind, the latest one; an empty one: none came.
  v1::Event Await(EventWatch* watch, v1::EventKind kind) {
    v1::Event found;
    hotline::Eventually([&] {
      ReadAll(watch);
      for (const v1::Event& event : events_) {
        if (event.kind() == kind) found = event;
      }
      return found.kind() == kind;
    });
    return found;
  }

  void AddToLog(int events) {
    for (int i = 0; i < events; ++i) {
      at_ += seconds(1);
      event_log_.Add({.kind = v1::EVENT_KIND_CONFIG, .reason = "loaded"}, at_);
    }
  }
  // A rule for "cn:watcher".
  void Allow(std::vector<std::string> rpcs, std::vector<std::string> targets,
             bool all_leases = false) {
    PolicyRules rules;
    rules.allow_by_default = false;
    PolicyRule& rule = rules.rules.emplace_back();
    rule.identities = {"cn:watcher"};
    rule.rpcs = std::move(rpcs);
    rule.targets = std::move(targets);
    rule.all_leases = all_leases;
    settings_.policy = CompilePolicy(rules);
    broker_->Reconfigure(settings_);
  }

  IdentityTable identities_;
  Instant at_ = MonotonicNow() + std::chrono::hours(1);
  std::vector<v1::Event> events_;
  std::vector<v1::EventGap> gaps_;
  uint64_t sequence_ = 0;
  std::string refused_;
};

TEST_F(EventWatchTest, ShowsAConnectionsLifeAndNoCall) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  auto watch = WatchNew(peer.target());
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  const v1::Event ready = Await(watch.get(), v1::EVENT_KIND_READY);
  EXPECT_EQ(ready.target(), peer.target());
  EXPECT_NE(ready.connection_id(), 0u);
  EXPECT_GT(ready.time().seconds(), 0);
  ASSERT_EQ(events_.size(), 2u);
  EXPECT_EQ(events_[0].kind(), v1::EVENT_KIND_DIALING);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(Execute(peer)->Wait(), "OK");
  ReadAll(watch.get());
  EXPECT_EQ(events_.size(), 2u);
  EXPECT_TRUE(pool_->Evict(ready.connection_id(), true, MonotonicNow()));
  const v1::Event closed = Await(watch.get(), v1::EVENT_KIND_CLOSED);
  EXPECT_EQ(closed.reason(), "operator");
  EXPECT_EQ(closed.connection_id(), ready.connection_id());
  EXPECT_NE(closed.text().find("21 uses"), std::string::npos) << closed.text();
}

TEST_F(EventWatchTest, AFailedDialHasItsReason) {
  std::string target;
  {
    ScriptedPeer gone(AlwaysAnswer(OkResponse("")));
    target = gone.target();
  }
  auto watch = WatchNew(target);
  auto call = Acquire(target);
  ASSERT_EQ(call->Wait(), "CONNECT_FAILED");
  const v1::Event failed = Await(watch.get(), v1::EVENT_KIND_DIAL_FAILED);
  EXPECT_EQ(failed.reason(), "CONNECT_FAILED");
  EXPECT_NE(failed.text(), "");
}

TEST_F(EventWatchTest, AFilterOfTargetAndKindsLetsOnlyTheseThrough) {
  AddToLog(1);
  event_log_.Add({.kind = v1::EVENT_KIND_READY, .target = "http://a:80"}, at_);
  event_log_.Add({.kind = v1::EVENT_KIND_CLOSED, .target = "http://a:80"}, at_);
  v1::WatchEventsRequest request = KeptOnly();
  request.set_target("http://A");
  request.add_kinds(v1::EVENT_KIND_CLOSED);
  auto watch = Watch(request);
  EXPECT_EQ(ReadAll(watch.get()), EventWatch::Step::kEnd);
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].sequence(), 3u);
}

TEST_F(EventWatchTest, KeptOnlyEndsAfterWhatIsKept) {
  auto empty = Watch(KeptOnly());
  EXPECT_EQ(ReadAll(empty.get()), EventWatch::Step::kEnd);
  EXPECT_EQ(empty->TakeError(), nullptr);
  AddToLog(300);
  auto watch = Watch(KeptOnly());
  EXPECT_EQ(ReadAll(watch.get()), EventWatch::Step::kEnd);
  EXPECT_EQ(watch->TakeError(), nullptr);
  EXPECT_EQ(events_.size(), 300u);
  EXPECT_TRUE(gaps_.empty());
}

TEST_F(EventWatchTest, ResumesAfterTheNumberThatItWasTold) {
  AddToLog(3);
  auto first = Watch(KeptOnly());
  ReadAll(first.get());
  EXPECT_EQ(sequence_, 3u);
  AddToLog(2);
  v1::WatchEventsRequest request;
  request.set_after(sequence_);
  request.set_instance("00000007");
  events_.clear();
  auto second = Watch(request);
  EXPECT_EQ(ReadAll(second.get()), EventWatch::Step::kNothing);
  ASSERT_EQ(events_.size(), 2u);
  EXPECT_EQ(events_[0].sequence(), 4u);
  EXPECT_TRUE(gaps_.empty());
}

TEST_F(EventWatchTest, ASlowWatcherIsToldWhatItMissed) {
  auto watch = WatchNew();
  AddToLog(static_cast<int>(EventLog::kCapacity) + 10);
  ReadAll(watch.get());
  ASSERT_EQ(gaps_.size(), 1u);
  EXPECT_EQ(gaps_[0].first(), 1u);
  EXPECT_EQ(gaps_[0].last(), 10u);
  ASSERT_EQ(events_.size(), EventLog::kCapacity);
  EXPECT_EQ(events_[0].sequence(), 11u);
}

TEST_F(EventWatchTest, WhoAsksForWhatIsKeptIsToldOfNoGap) {
  AddToLog(static_cast<int>(EventLog::kCapacity) + 10);
  for (const bool follows : {true, false}) {
    events_.clear();
    v1::WatchEventsRequest request;
    request.set_kept_only(!follows);
    if (follows) request.set_after(0);
    auto watch = Watch(request);
    ReadAll(watch.get());
    EXPECT_TRUE(gaps_.empty());
    EXPECT_EQ(events_.size(), EventLog::kCapacity);
  }
}

TEST_F(EventWatchTest, AfterARestartEverythingComesAfterAGap) {
  AddToLog(2);
  for (const bool by_name : {true, false}) {
    events_.clear();
    gaps_.clear();
    v1::WatchEventsRequest request = KeptOnly();
    request.set_after(by_name ? 1 : 1'000'000);
    if (by_name) request.set_instance("ffffffff");
    auto watch = Watch(request);
    ReadAll(watch.get());
    ASSERT_EQ(gaps_.size(), 1u);
    EXPECT_EQ(gaps_[0].first(), 0u);
    EXPECT_EQ(events_.size(), 2u);
  }
}

TEST_F(EventWatchTest, AWatcherWhoseFilterMatchesNothingStaysUpToDate) {
  auto watch = WatchNew("http://quiet:80");
  AddToLog(2000);
  ReadAll(watch.get());
  EXPECT_TRUE(events_.empty());
  EXPECT_EQ(sequence_, 2000u);
}

TEST_F(EventWatchTest, BadRequestsAreRefused) {
  v1::WatchEventsRequest request;
  request.set_target("ftp://a");
  EXPECT_EQ(Watch(request), nullptr);
  EXPECT_EQ(refused_, "BAD_TARGET");
  request.Clear();
  request.add_kinds(v1::EVENT_KIND_UNSPECIFIED);
  EXPECT_EQ(Watch(request), nullptr);
  EXPECT_EQ(refused_, "BAD_OPTION");
  request.set_kinds(0, static_cast<v1::EventKind>(1000));
  EXPECT_EQ(Watch(request), nullptr);
  EXPECT_EQ(refused_, "BAD_OPTION");
}

TEST_F(EventWatchTest, ThePolicySaysWhoseEventsMayBeWatched) {
  Allow({"WatchEvents"}, {"http://a:80"});
  const IdentityPtr watcher = identities_.Get("cn:watcher");
  v1::WatchEventsRequest request;
  EXPECT_EQ(Watch(request, watcher), nullptr) << "of all targets";
  EXPECT_EQ(refused_, "NOT_AUTHORIZED");
  request.set_target("http://b:80");
  EXPECT_EQ(Watch(request, watcher), nullptr);
  request.set_target("http://a:80");
  EXPECT_EQ(Watch(request), nullptr);
  EXPECT_EQ(refused_, "NO_IDENTITY");
  auto watch = Watch(request, watcher);
  ASSERT_NE(watch, nullptr);
  EXPECT_EQ(ReadAll(watch.get()), EventWatch::Step::kNothing);
  // A reload takes it away from a stream that is open.
  Allow({"Execute"}, {});
  EXPECT_EQ(ReadAll(watch.get()), EventWatch::Step::kEnd);
  const ErrorPtr error = watch->TakeError();
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->reason, "NOT_AUTHORIZED");
}

TEST_F(EventWatchTest, TheHolderOfALeaseIsForItsOwnerAndWhoSeesAllLeases) {
  const IdentityPtr holder = identities_.Get("cn:holder");
  const IdentityPtr watcher = identities_.Get("cn:watcher");
  event_log_.Add(
      {.kind = v1::EVENT_KIND_LEASE,
       .target = "http://a:80",
       .reason = "leaked",
       .holder = std::make_shared<pool::Holder>(pool::Holder{"job-3", "", ""}),
       .owner = holder->owner},
      at_);
  const auto seen = [&](const IdentityPtr& who) {
    events_.clear();
    auto watch = Watch(KeptOnly(), who);
    ReadAll(watch.get());
    return events_.at(0).holder().client_id();
  };
  EXPECT_EQ(seen(holder), "job-3");
  EXPECT_EQ(seen(watcher), "");
  EXPECT_EQ(seen(nullptr), "");
  Allow({}, {}, /*all_leases=*/true);
  EXPECT_EQ(seen(watcher), "job-3");
  std::unique_ptr<EventWatch> operators;
  EXPECT_NE(broker_->WatchEventsAsOperator(KeptOnly(), holder, MonotonicNow(),
                                           &operators),
            nullptr);
  Allow({"Admin"}, {});
  ASSERT_EQ(broker_->WatchEventsAsOperator(KeptOnly(), watcher, MonotonicNow(),
                                           &operators),
            nullptr);
  events_.clear();
  ReadAll(operators.get());
  EXPECT_EQ(events_.at(0).holder().client_id(), "job-3");
}

TEST_F(EventWatchTest, TheEndOfTheProcessEndsItAfterTheLastEvent) {
  auto watch = WatchNew();
  AddToLog(1);
  broker_->AbortCalls();
  EXPECT_EQ(ReadAll(watch.get()), EventWatch::Step::kEnd);
  EXPECT_EQ(events_.size(), 1u);
  const ErrorPtr error = watch->TakeError();
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->reason, "DRAINING");
}

TEST_F(EventWatchTest, AnExhaustedTargetsErrorHasItsLastEvents) {
  target_config_.max_connections = 1;
  target_config_.max_waiters = 0;
  Build();
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  // No caller may wait for a dial.
  pool::HostPoolKey key;
  key.target = peer.target();
  pool_->Prewarm(key, 1, 1, MonotonicNow());
  // Its readiness is an event once it can be lent.
  ASSERT_TRUE(Eventually([this](const pool::Snapshot& snapshot) {
    return snapshot.targets.at(0).idle == 1 && event_log_.last() == 2;
  }));
  auto holder = Acquire(peer.target());
  ASSERT_EQ(holder->Wait(), "OK");
  auto refused = Acquire(peer.target());
  ASSERT_EQ(refused->Wait(), "QUEUE_FULL");
  const v1::WaitExplanation& wait = *refused->error().wait;
  ASSERT_EQ(wait.recent_events_size(), 2);
  EXPECT_EQ(wait.recent_events(0).kind(), v1::EVENT_KIND_DIALING);
  EXPECT_EQ(wait.recent_events(1).kind(), v1::EVENT_KIND_READY);
  EXPECT_EQ(wait.recent_events(1).target(), "");
  EXPECT_EQ(Release(holder->response.lease().lease_id()), "OK");
}

TEST_F(EventWatchTest, StatsOfATargetHaveItsLastEvents) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  CallContext context;
  context.arrival = MonotonicNow();
  v1::StatsRequest request;
  v1::StatsResponse response;
  ASSERT_EQ(broker_->Stats(request, &response, context), nullptr);
  EXPECT_EQ(response.targets(0).recent_events_size(), 0) << "not of all";
  request.set_target(peer.target());
  response.Clear();
  ASSERT_EQ(broker_->Stats(request, &response, context), nullptr);
  ASSERT_EQ(response.targets(0).recent_events_size(), 2);
  EXPECT_EQ(response.targets(0).recent_events(1).kind(), v1::EVENT_KIND_READY);
}

TEST_F(EventWatchTest, AnOverloadIsAnEvent) {
  settings_.overload.max_calls = 0;
  Build();
  auto watch = WatchNew();
  ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Execute(peer)->Wait(), "OVERLOADED");
  const v1::Event event = Await(watch.get(), v1::EVENT_KIND_OVERLOAD);
  EXPECT_EQ(event.reason(), "calls");
  EXPECT_EQ(event.target(), "");
}

}  // namespace
}  // namespace hotline::server
