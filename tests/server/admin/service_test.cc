// hotline.v1.Admin over a Unix socket, on a real pool and upstream.
#include "server/admin/service.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "server/admin/admin.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::seconds;
using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

class AdminServiceTest : public BrokerTest {
 protected:
  using Stub = v1::Admin::Stub;

  AdminServiceTest() {
    char name[] = "/tmp/hlXXXXXX";
    directory_ = mkdtemp(name);
    SetLogSink([this](LogLevel, std::string_view line) {
      std::lock_guard lock(log_mu_);
      log_.emplace_back(line);
    });
  }
  ~AdminServiceTest() override {
    SetLogSink(nullptr);
    std::filesystem::remove_all(directory_);
  }

  void SetUp() override {
    BrokerTest::SetUp();
    AdminHooks hooks;
    hooks.config = [this] { return origin_; };
    hooks.reload = [this] { return reloaded_; };
    hooks.draining = [] { return false; };
    hooks.drain_changed = [this] { ++drain_changes_; };
    hooks.set_log_level = [this](LogLevel level, const std::string& target,
                                 Duration duration) {
      const auto before = level_before_;
      if (before.has_value()) {
        level_ = level;
        level_target_ = target;
        level_for_ = duration;
      }
      return before;
    };
    hooks.check = [](const std::string& yaml, const std::string& name) {
      return ParseConfig(yaml, name, /*cores=*/2);
    };
    hooks.use = [this](std::shared_ptr<const Settings> settings,
                       const std::string& name) {
      if (!reloaded_.ok()) return reloaded_;
      used_ = name;
      origin_.now = std::move(settings);
      return absl::OkStatus();
    };
    service_ = std::make_unique<AdminService>(
        AdminService::Parts{.pool = pool_.get(),
                            .upstream = upstream_.get(),
                            .broker = broker_.get(),
                            .identities = &identities_,
                            .hooks = std::move(hooks)});
    auto admin = Admin::Start({.address = "unix://" + directory_ + "/a.sock"},
                              service_.get());
    ASSERT_TRUE(admin.ok()) << admin.status();
    admin_ = *std::move(admin);
    stub_ = v1::Admin::NewStub(grpc::CreateChannel(
        admin_->address(), grpc::InsecureChannelCredentials()));
  }

  void TearDown() override {
    if (admin_ != nullptr) admin_->Stop(Duration(0));
    BrokerTest::TearDown();
  }

  // "OK", or the error's reason.
  template <typename Request, typename Response>
  std::string Call(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                const Request&, Response*),
                   const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + seconds(20));
    const grpc::Status status =
        (stub_.get()->*method)(&context, request, response);
    if (status.ok()) return "OK";
    google::rpc::Status details;
    google::rpc::ErrorInfo info;
    if (!details.ParseFromString(status.error_details()) ||
        details.details().empty() || !details.details(0).UnpackTo(&info)) {
      return "no reason: " + status.error_message();
    }
    return info.reason();
  }

  // The same for requests that name a target, answers unseen.
  template <typename Request, typename Response>
  std::string On(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                              const Request&, Response*),
                 const std::string& target) {
    Request request;
    request.set_target(target);
    Response response;
    return Call(method, request, &response);
  }

  std::string Drain(const std::string& target) {
    return On<v1::DrainRequest, v1::DrainResponse>(&Stub::Drain, target);
  }
  std::string Pause(const std::string& target) {
    return On<v1::PauseRequest, v1::PauseResponse>(&Stub::Pause, target);
  }
  std::string Resume(const std::string& target) {
    return On<v1::ResumeRequest, v1::ResumeResponse>(&Stub::Resume, target);
  }

  // Whether a line of the log has all of these.
  bool Logged(const std::vector<std::string>& parts) {
    const auto has = [&] {
      std::lock_guard lock(log_mu_);
      for (const std::string& line : log_) {
        size_t found = 0;
        for (const std::string& part : parts) {
          found += absl::StrContains(line, part);
        }
        if (found == parts.size()) return true;
      }
      return false;
    };
    return hotline::Eventually(has);
  }

  // Whether a line of the log has it now.
  bool Logs(const std::string& part) {
    std::lock_guard lock(log_mu_);
    return std::any_of(log_.begin(), log_.end(), [&](const std::string& line) {
      return absl::StrContains(line, part);
    });
  }

  // A policy of one rule for this test's user.
  void Allow(std::vector<std::string> rpcs, std::vector<std::string> targets) {
    PolicyRules rules;
    PolicyRule& rule = rules.rules.emplace_back();
    rule.identities = {absl::StrCat("uid:", getuid())};
    rule.rpcs = std::move(rpcs);
    rule.targets = std::move(targets);
    settings_.policy = CompilePolicy(rules);
    broker_->Reconfigure(settings_);
  }

  static ConfigOrigin Origin() {
    ConfigOrigin origin;
    origin.started = origin.now =
        std::make_shared<const Settings>(DefaultSettings(2));
    origin.file = "/etc/hotline.yaml";
    return origin;
  }

  std::string directory_;
  std::mutex log_mu_;
  std::vector<std::string> log_;
  IdentityTable identities_;
  ConfigOrigin origin_ = Origin();
  absl::Status reloaded_;
  LogLevel level_ = LogLevel::kInfo;
  std::optional<LogLevel> level_before_ = LogLevel::kInfo;
  std::string level_target_;
  Duration level_for_{0};
  std::atomic<int> drain_changes_{0};
  std::string used_;  // By the hook.
  std::unique_ptr<AdminService> service_;
  std::unique_ptr<Admin> admin_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(AdminServiceTest, ADrainedTargetRefusesCallsUntilItIsOpened) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  EXPECT_EQ(Drain(peer.target()), "OK");
  EXPECT_EQ(Execute(peer)->Wait(), "DRAINING");
  v1::UndrainRequest request;
  request.set_target(peer.target());
  v1::UndrainResponse response;
  EXPECT_EQ(Call(&Stub::Undrain, request, &response), "OK");
  EXPECT_EQ(response.before(), "drained");
  EXPECT_EQ(Execute(peer)->Wait(), "OK");
  EXPECT_EQ(peer.accepted(), 2);
}

TEST_F(AdminServiceTest, ADrainedBrokerRefusesWhatWouldBorrowUntilItIsOpened) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  auto acquired = Acquire(peer.target());
  ASSERT_EQ(acquired->Wait(), "OK");
  const std::string lease = acquired->response.lease().lease_id();
  v1::DrainRequest request;
  request.set_broker(true);
  v1::DrainResponse response;
  ASSERT_EQ(Call(&Stub::Drain, request, &response), "OK");
  EXPECT_EQ(response.before(), "open");
  EXPECT_EQ(response.leases(), 1);
  EXPECT_EQ(drain_changes_, 1);
  EXPECT_TRUE(Logged({"method=Drain", "the broker", "result=ok"}));
  EXPECT_EQ(Execute(peer)->Wait(), "DRAINING");
  EXPECT_EQ(Acquire(peer.target())->Wait(), "DRAINING");
  // The lease stays usable, and its connection open.
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.set_lease_id(lease);
  EXPECT_EQ(Go(&call)->Wait(), "OK");
  EXPECT_EQ(Release(lease), "OK");
  v1::ExplainRequest ask;
  ask.set_target(peer.target());
  v1::ExplainResponse explained;
  ASSERT_EQ(Call(&Stub::Explain, ask, &explained), "OK");
  EXPECT_TRUE(absl::StartsWith(explained.summary(), "BROKER_DRAINED: "));
  v1::UndrainRequest undrain;
  undrain.set_broker(true);
  v1::UndrainResponse undrained;
  ASSERT_EQ(Call(&Stub::Undrain, undrain, &undrained), "OK");
  EXPECT_EQ(undrained.before(), "drained");
  EXPECT_EQ(Execute(peer)->Wait(), "OK");
  EXPECT_EQ(peer.accepted(), 1);
}

TEST_F(AdminServiceTest, CallersThatWaitAreServedByADrainedBroker) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  ASSERT_EQ(Pause(peer.target()), "OK");
  auto call = Execute(peer);
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets.at(0).waiters == 1;
  }));
  broker_->SetDrained(true);
  EXPECT_EQ(Resume(peer.target()), "OK");
  EXPECT_EQ(call->Wait(), "OK");
}

TEST_F(AdminServiceTest, ADrainedAddressIsLeftWhenItsLeasesEnd) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  auto acquired = Acquire(peer.target());
  ASSERT_EQ(acquired->Wait(), "OK");
  v1::DrainRequest request;
  request.set_target(peer.target());
  request.set_address("127.0.0.1");
  v1::DrainResponse response;
  ASSERT_EQ(Call(&Stub::Drain, request, &response), "OK");
  EXPECT_EQ(response.connections(), 1);
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.set_lease_id(acquired->response.lease().lease_id());
  EXPECT_EQ(Go(&call)->Wait(), "OK");
  EXPECT_EQ(Release(acquired->response.lease().lease_id()), "OK");
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.connections_reserved == 0;
  }));
  EXPECT_EQ(Execute(peer)->Wait(), "ADDRESS_BLOCKED");
  v1::ExplainRequest ask;
  ask.set_target(peer.target());
  v1::ExplainResponse explained;
  ASSERT_EQ(Call(&Stub::Explain, ask, &explained), "OK");
  EXPECT_TRUE(absl::StrContains(explained.ShortDebugString(),
                                "drained by an operator"));
  v1::UndrainRequest undrain;
  undrain.set_address("127.0.0.1");
  v1::UndrainResponse undrained;
  EXPECT_EQ(Call(&Stub::Undrain, undrain, &undrained), "NOT_BLOCKED")
      << "it is drained for one target only";
  undrain.set_target(peer.target());
  ASSERT_EQ(Call(&Stub::Undrain, undrain, &undrained), "OK");
  EXPECT_EQ(Execute(peer)->Wait(), "OK");
}

TEST_F(AdminServiceTest, ABlockedAddressIsCutOffAtOnceUntilItIsUnblocked) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  });
  auto call = Execute(peer);
  ASSERT_TRUE(hotline::Eventually([&] { return peer.accepted() == 1; }));
  v1::BlockAddressRequest request;
  request.set_address("127.0.0.7/8");
  v1::BlockAddressResponse response;
  ASSERT_EQ(Call(&Stub::BlockAddress, request, &response), "OK");
  EXPECT_TRUE(Logged({"method=BlockAddress", "127.0.0.0/8", "result=ok"}));
  EXPECT_NE(call->Wait(), "STUCK");
  EXPECT_NE(call->Wait(), "OK");
  EXPECT_EQ(Execute(peer)->Wait(), "ADDRESS_BLOCKED");
  v1::GetConfigResponse config;
  ASSERT_EQ(Call(&Stub::GetConfig, v1::GetConfigRequest(), &config), "OK");
  ASSERT_EQ(config.overrides_size(), 1);
  EXPECT_EQ(config.overrides(0), "127.0.0.0/8 is blocked for every target");
  v1::UnblockAddressRequest unblock;
  unblock.set_address("127.0.0.0/8");
  v1::UnblockAddressResponse unblocked;
  EXPECT_EQ(Call(&Stub::UnblockAddress, unblock, &unblocked), "OK");
  EXPECT_EQ(Call(&Stub::UnblockAddress, unblock, &unblocked), "NOT_BLOCKED");
  EXPECT_EQ(Acquire(peer.target())->Wait(), "OK");
  leases_kept_ = 1;
}

TEST_F(AdminServiceTest, WhatIsToBeBlockedOrDrainedIsChecked) {
  v1::BlockAddressRequest block;
  v1::BlockAddressResponse blocked;
  for (const char* address : {"", "a.test", "192.0.2.1/33", "192.0.2.1:443"}) {
    block.set_address(address);
    EXPECT_EQ(Call(&Stub::BlockAddress, block, &blocked), "BAD_OPTION")
        << address;
  }
  block.set_address("192.0.2.1");
  block.mutable_duration()->set_seconds(25 * 3600);
  EXPECT_EQ(Call(&Stub::BlockAddress, block, &blocked), "BAD_OPTION");
  block.clear_duration();
  block.set_target("no target");
  EXPECT_EQ(Call(&Stub::BlockAddress, block, &blocked), "BAD_TARGET");
  v1::DrainRequest drain;
  v1::DrainResponse drained;
  drain.set_broker(true);
  drain.set_target("https://a.test");
  EXPECT_EQ(Call(&Stub::Drain, drain, &drained), "BAD_OPTION");
  EXPECT_EQ(Drain(""), "BAD_TARGET");
}

TEST_F(AdminServiceTest, TheWholeBrokerNeedsARuleWithoutTargets) {
  Allow({"Admin"}, {"https://a.test"});
  v1::DrainRequest drain;
  v1::DrainResponse drained;
  drain.set_broker(true);
  EXPECT_EQ(Call(&Stub::Drain, drain, &drained), "NOT_AUTHORIZED");
  v1::BlockAddressRequest block;
  v1::BlockAddressResponse blocked;
  block.set_address("192.0.2.1");
  EXPECT_EQ(Call(&Stub::BlockAddress, block, &blocked), "NOT_AUTHORIZED");
  block.set_target("https://a.test");
  EXPECT_EQ(Call(&Stub::BlockAddress, block, &blocked), "OK");
  v1::UpdateConfigRequest update;
  update.set_validate_only(true);
  v1::UpdateConfigResponse updated;
  EXPECT_EQ(Call(&Stub::UpdateConfig, update, &updated), "NOT_AUTHORIZED");
}

TEST_F(AdminServiceTest, CallsOnAPausedTargetWaitUntilItIsResumed) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  EXPECT_EQ(Pause(peer.target() + "/some/path"), "OK");
  auto call = Execute(peer);
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets.at(0).waiters == 1;
  }));
  EXPECT_EQ(peer.accepted(), 0);
  EXPECT_EQ(Resume(peer.target()), "OK");
  EXPECT_EQ(call->Wait(), "OK");
}

TEST_F(AdminServiceTest, AReconnectReplacesTheConnection) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  v1::ReconnectRequest request;
  request.set_target(peer.target());
  v1::ReconnectResponse response;
  EXPECT_EQ(Call(&Stub::Reconnect, request, &response), "OK");
  EXPECT_EQ(response.connections(), 1);
  ASSERT_TRUE(hotline::Eventually([&] { return peer.accepted() == 2; }));
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return !snapshot.targets.at(0).reconnecting &&
           snapshot.targets.at(0).idle == 1;
  }));
  request.set_target("https://unknown.test");
  EXPECT_EQ(Call(&Stub::Reconnect, request, &response), "TARGET_UNKNOWN");
}

TEST_F(AdminServiceTest, WarmDialsWithoutACaller) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  v1::WarmRequest request;
  request.set_target(peer.target());
  request.set_connections(2);
  v1::WarmResponse response;
  EXPECT_EQ(Call(&Stub::Warm, request, &response), "OK");
  EXPECT_EQ(response.missing(), 2);
  EXPECT_TRUE(hotline::Eventually([&] { return peer.accepted() == 2; }));
  // Returns when they are ready.
  request.set_connections(3);
  request.mutable_wait()->set_seconds(60);
  EXPECT_EQ(Call(&Stub::Warm, request, &response), "OK");
  EXPECT_EQ(response.missing(), 0);
  request.mutable_wait()->set_nanos(1);
  EXPECT_EQ(Call(&Stub::Warm, request, &response), "BAD_OPTION");
  request.clear_wait();
  request.set_connections(-1);
  EXPECT_EQ(Call(&Stub::Warm, request, &response), "BAD_OPTION");
  request.set_connections(1001);
  EXPECT_EQ(Call(&Stub::Warm, request, &response), "BAD_OPTION");
}

TEST_F(AdminServiceTest, AConnectionIsEvictedById) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  auto call = Execute(peer);
  ASSERT_EQ(call->Wait(), "OK");
  v1::EvictConnectionRequest request;
  request.set_connection_id(
      call->response.receipt().connection().connection_id());
  v1::EvictConnectionResponse response;
  EXPECT_EQ(Call(&Stub::EvictConnection, request, &response), "OK");
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets.at(0).idle == 0;
  }));
  EXPECT_EQ(Call(&Stub::EvictConnection, request, &response),
            "CONNECTION_UNKNOWN");
}

TEST_F(AdminServiceTest, ALeaseIsEndedByTheNumberThatExplainShows) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  auto acquired = Acquire(peer.target());
  ASSERT_EQ(acquired->Wait(), "OK");
  v1::ExplainRequest ask;
  ask.set_target(peer.target());
  v1::ExplainResponse explained;
  ASSERT_EQ(Call(&Stub::Explain, ask, &explained), "OK");
  ASSERT_EQ(explained.holdings_size(), 1);
  EXPECT_FALSE(explained.holdings(0).in_call());
  v1::EndLeaseRequest request;
  request.set_lease_number(explained.holdings(0).lease_number());
  v1::EndLeaseResponse response;
  EXPECT_EQ(Call(&Stub::EndLease, request, &response), "OK");
  EXPECT_FALSE(response.call_ended());
  EXPECT_EQ(Release(acquired->response.lease().lease_id()), "ALREADY");
  EXPECT_EQ(Call(&Stub::EndLease, request, &response), "LEASE_UNKNOWN");
}

TEST_F(AdminServiceTest, TheCallOnALeaseThatIsEndedEndsToo) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  });
  auto acquired = Acquire(peer.target());
  ASSERT_EQ(acquired->Wait(), "OK");
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.set_lease_id(acquired->response.lease().lease_id());
  Go(&call);
  pool::SnapshotRequest wanted;
  wanted.leases = true;
  pool::Snapshot snapshot;
  ASSERT_TRUE(hotline::Eventually([&] {
    snapshot = pool_->TakeSnapshot(wanted, MonotonicNow());
    return snapshot.leases.size() == 1 && snapshot.leases[0].busy;
  }));
  v1::EndLeaseRequest request;
  request.set_lease_number(snapshot.leases[0].id);
  v1::EndLeaseResponse response;
  EXPECT_EQ(Call(&Stub::EndLease, request, &response), "OK");
  EXPECT_TRUE(response.call_ended());
  EXPECT_NE(call.Wait(), "STUCK");
}

TEST_F(AdminServiceTest, ExplainNamesARefusedConnectionAndItsBreaker) {
  target_config_.breaker_failures = 1;
  target_config_.breaker_open_for = std::chrono::hours(1);
  std::string target;
  {
    ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
    target = peer.target();
  }
  auto call = Acquire(target);
  EXPECT_NE(call->Wait(), "OK");
  v1::ExplainRequest request;
  request.set_target(target + "/path?query");
  v1::ExplainResponse response;
  ASSERT_EQ(Call(&Stub::Explain, request, &response), "OK");
  ASSERT_EQ(response.findings_size(), 2) << response.ShortDebugString();
  EXPECT_EQ(response.findings(0).cause(), "CONNECT_FAILED");
  EXPECT_EQ(response.findings(1).cause(), "CIRCUIT_OPEN");
  EXPECT_EQ((On<v1::ResetBreakerRequest, v1::ResetBreakerResponse>(
                &Stub::ResetBreaker, target)),
            "OK");
  ASSERT_EQ(Call(&Stub::Explain, request, &response), "OK");
  EXPECT_EQ(response.summary(), "nothing is wrong");
}

TEST_F(AdminServiceTest, ItsHealthIsThatOfTheProcess) {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("hotline.v1.Admin");
  grpc::health::v1::HealthCheckResponse response;
  grpc::ClientContext context;
  const auto stub = grpc::health::v1::Health::NewStub(grpc::CreateChannel(
      admin_->address(), grpc::InsecureChannelCredentials()));
  ASSERT_TRUE(stub->Check(&context, request, &response).ok());
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
}

TEST_F(AdminServiceTest, BadTargetsAreRefused) {
  EXPECT_EQ(Drain("no target"), "BAD_TARGET");
  EXPECT_EQ(Pause(""), "BAD_TARGET");
  EXPECT_EQ((On<v1::ExplainRequest, v1::ExplainResponse>(&Stub::Explain,
                                                         "ftp://a.test")),
            "BAD_TARGET");
}

TEST_F(AdminServiceTest, EachChangeIsLoggedWithItsCaller) {
  const std::string user = absl::StrCat("identity=uid:", getuid());
  EXPECT_EQ(Pause("https://a.test"), "OK");
  EXPECT_TRUE(Logged({"admin", "method=Pause", "target=https://a.test:443",
                      user, "result=ok"}));
  SetLogLevel(LogLevel::kError);
  EXPECT_EQ(Resume("https://a.test"), "OK");
  SetLogLevel(LogLevel::kInfo);
  EXPECT_TRUE(Logged({"admin", "method=Resume", user}));
  EXPECT_EQ((On<v1::ResetBreakerRequest, v1::ResetBreakerResponse>(
                &Stub::ResetBreaker, "https://b.test")),
            "TARGET_UNKNOWN");
  EXPECT_TRUE(Logged({"method=ResetBreaker", "result=TARGET_UNKNOWN"}));
}

TEST_F(AdminServiceTest, APolicyAllowsOnlyWhatItListsAsAdmin) {
  Allow({}, {});  // All RPCs of the Broker.
  EXPECT_EQ(Pause("https://a.test"), "NOT_AUTHORIZED");
  EXPECT_TRUE(Logged({"denied", "method=Admin"}));
  Allow({"Admin"}, {"https://a.test"});
  EXPECT_EQ(Pause("https://a.test"), "OK");
  EXPECT_EQ(Pause("https://b.test"), "NOT_AUTHORIZED");
  // A rule for targets does not allow what concerns the whole broker.
  v1::GetConfigResponse config;
  EXPECT_EQ(Call(&Stub::GetConfig, v1::GetConfigRequest(), &config),
            "NOT_AUTHORIZED");
  Allow({"Admin"}, {});
  EXPECT_EQ(Call(&Stub::GetConfig, v1::GetConfigRequest(), &config), "OK");
}

TEST_F(AdminServiceTest, APolicyForTargetsHoldsForLeasesAndConnections) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  auto call = Execute(peer);
  ASSERT_EQ(call->Wait(), "OK");
  v1::EvictConnectionRequest request;
  request.set_connection_id(
      call->response.receipt().connection().connection_id());
  v1::EvictConnectionResponse response;
  Allow({"Admin"}, {"https://other.test"});
  EXPECT_EQ(Call(&Stub::EvictConnection, request, &response), "NOT_AUTHORIZED");
  Allow({"Admin"}, {peer.target()});
  EXPECT_EQ(Call(&Stub::EvictConnection, request, &response), "OK");
}

TEST_F(AdminServiceTest, AWatcherSeesWhoChangedWhat) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + seconds(20));
  const auto reader = stub_->WatchEvents(&context, v1::WatchEventsRequest());
  v1::WatchEventsResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.instance(), "00000007");
  EXPECT_EQ(response.events_size(), 0);
  EXPECT_EQ(Pause(peer.target()), "OK");
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_EQ(response.events_size(), 1);
  const v1::Event& event = response.events(0);
  EXPECT_EQ(event.kind(), v1::EVENT_KIND_OPERATOR);
  EXPECT_EQ(event.reason(), "Pause");
  EXPECT_EQ(event.target(), peer.target());
  EXPECT_EQ(event.identity(), absl::StrCat("uid:", getuid()));
  // What failed has changed nothing.
  EXPECT_EQ(On<v1::ReconnectRequest>(&Stub::Reconnect, "http://unknown.test"),
            "TARGET_UNKNOWN");
  EXPECT_EQ(Resume(peer.target()), "OK");
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_EQ(response.events_size(), 1);
  EXPECT_EQ(response.events(0).reason(), "Resume");
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(AdminServiceTest, ManyWatchersLeaveThreadsForTheOthers) {
  constexpr int kWatchers = 40;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::WatchEventsResponse>>>
      readers;
  for (int i = 0; i < kWatchers; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    contexts.back()->set_deadline(std::chrono::system_clock::now() +
                                  seconds(60));
    readers.push_back(
        stub_->WatchEvents(contexts.back().get(), v1::WatchEventsRequest()));
    v1::WatchEventsResponse first;
    ASSERT_TRUE(readers.back()->Read(&first)) << i;
  }
  v1::GetConfigResponse config;
  EXPECT_EQ(Call(&Stub::GetConfig, v1::GetConfigRequest(), &config), "OK");
  for (const auto& context : contexts) context->TryCancel();
  for (const auto& reader : readers) {
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST_F(AdminServiceTest, AWatchNeedsTheRuleOfAdmin) {
  Allow({"WatchEvents"}, {});
  grpc::ClientContext context;
  v1::WatchEventsResponse response;
  const auto refused = stub_->WatchEvents(&context, v1::WatchEventsRequest());
  EXPECT_FALSE(refused->Read(&response));
  EXPECT_EQ(refused->Finish().error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  Allow({"Admin"}, {"http://a:80"});
  v1::WatchEventsRequest request;
  request.set_target("http://a:80");
  request.set_kept_only(true);
  grpc::ClientContext again;
  const auto allowed = stub_->WatchEvents(&again, request);
  EXPECT_TRUE(allowed->Read(&response));
  EXPECT_FALSE(allowed->Read(&response));
  EXPECT_TRUE(allowed->Finish().ok());
}

TEST_F(AdminServiceTest, TheEndOfTheProcessEndsAWatch) {
  grpc::ClientContext context;
  const auto reader = stub_->WatchEvents(&context, v1::WatchEventsRequest());
  v1::WatchEventsResponse response;
  ASSERT_TRUE(reader->Read(&response));
  broker_->AbortCalls();
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(AdminServiceTest, TheConfigurationIsShownWithItsOrigin) {
  v1::GetConfigResponse config;
  ASSERT_EQ(Call(&Stub::GetConfig, v1::GetConfigRequest(), &config), "OK");
  EXPECT_EQ(config.effective_yaml(), origin_.now->effective_yaml);
  EXPECT_EQ(config.file(), "/etc/hotline.yaml");
  EXPECT_EQ(config.waiting_for_restart_size(), 0);
  auto changed = std::make_shared<Settings>(*origin_.now);
  changed->upstream.loops += 1;
  origin_.now = changed;
  origin_.last_error = "line 7";
  ASSERT_EQ(Call(&Stub::GetConfig, v1::GetConfigRequest(), &config), "OK");
  ASSERT_EQ(config.waiting_for_restart_size(), 1);
  EXPECT_EQ(config.waiting_for_restart(0), "upstream.loops");
  EXPECT_EQ(config.last_error(), "line 7");
}

TEST_F(AdminServiceTest, ReloadReportsTheFaultsOfTheFile) {
  v1::ReloadResponse response;
  EXPECT_EQ(Call(&Stub::Reload, v1::ReloadRequest(), &response), "OK");
  reloaded_ = absl::InvalidArgumentError("hotline.yaml:7: unknown key");
  EXPECT_EQ(Call(&Stub::Reload, v1::ReloadRequest(), &response),
            "CONFIG_REFUSED");
  reloaded_ = absl::UnavailableError("shutting down");
  EXPECT_EQ(Call(&Stub::Reload, v1::ReloadRequest(), &response), "DRAINING");
}

TEST_F(AdminServiceTest, AnUpdateThatIsOnlyValidatedSaysWhatItWouldDo) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("fine")));
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  v1::UpdateConfigRequest request;
  request.set_yaml(absl::StrCat("targets:\n  - target: ", peer.target(),
                                "\n    warm: 3\nupstream: {loops: 7}\n"));
  request.set_validate_only(true);
  v1::UpdateConfigResponse response;
  ASSERT_EQ(Call(&Stub::UpdateConfig, request, &response), "OK");
  EXPECT_EQ(response.faults_size(), 0);
  std::vector<std::string> restarts;
  for (const v1::ConfigChange& change : response.changes()) {
    if (change.needs_restart()) restarts.push_back(change.key());
  }
  EXPECT_EQ(restarts, std::vector<std::string>{"upstream.loops"});
  ASSERT_EQ(response.consequences_size(), 1) << response.ShortDebugString();
  EXPECT_EQ(response.consequences(0).target(), peer.target());
  EXPECT_EQ(response.consequences(0).dialled(), 2);
  ASSERT_EQ(response.waiting_for_restart_size(), 1);
  EXPECT_EQ(used_, "");
  EXPECT_FALSE(Logs("method=UpdateConfig"));
}

TEST_F(AdminServiceTest, AnUpdateIsUsedAsAWholeOrNotAtAll) {
  v1::UpdateConfigRequest request;
  request.set_name("new.yaml");
  request.set_yaml("pool: {max_connections: 70}\n");
  v1::UpdateConfigResponse response;
  ASSERT_EQ(Call(&Stub::UpdateConfig, request, &response), "OK");
  EXPECT_EQ(used_, "new.yaml");
  EXPECT_EQ(origin_.now->pool.max_connections, 70);
  EXPECT_TRUE(Logged({"method=UpdateConfig", "new.yaml", "result=ok"}));
  request.set_yaml("pool: {max_connections: 80, max_conections: 9}\n");
  EXPECT_EQ(Call(&Stub::UpdateConfig, request, &response), "CONFIG_REFUSED");
  EXPECT_TRUE(Logged({"method=UpdateConfig", "result=CONFIG_REFUSED"}));
  EXPECT_EQ(origin_.now->pool.max_connections, 70);
  request.set_validate_only(true);
  ASSERT_EQ(Call(&Stub::UpdateConfig, request, &response), "OK");
  ASSERT_EQ(response.faults_size(), 1);
  EXPECT_TRUE(absl::StartsWith(response.faults(0), "new.yaml:1:"));
  EXPECT_EQ(response.changes_size(), 0);
  request.set_validate_only(false);
  request.set_yaml("");
  reloaded_ = absl::UnavailableError("shutting down");
  EXPECT_EQ(Call(&Stub::UpdateConfig, request, &response), "DRAINING");
}

TEST_F(AdminServiceTest, TheLogLevelIsSetForAWhile) {
  v1::SetLogLevelRequest request;
  request.set_level("debug");
  request.mutable_duration()->set_seconds(60);
  v1::SetLogLevelResponse response;
  EXPECT_EQ(Call(&Stub::SetLogLevel, request, &response), "OK");
  EXPECT_EQ(level_, LogLevel::kDebug);
  EXPECT_EQ(level_for_, seconds(60));
  EXPECT_EQ(response.before(), "info");
  EXPECT_EQ(level_target_, "");
  request.set_target("https://a.test/path");
  EXPECT_EQ(Call(&Stub::SetLogLevel, request, &response), "OK");
  EXPECT_EQ(level_target_, "https://a.test:443");
  EXPECT_TRUE(Logged(
      {"method=SetLogLevel", "target=https://a.test:443", "debug for 60 s"}));
  level_before_ = std::nullopt;
  EXPECT_EQ(Call(&Stub::SetLogLevel, request, &response), "BAD_OPTION");
  request.mutable_duration()->set_seconds(25 * 3600);
  EXPECT_EQ(Call(&Stub::SetLogLevel, request, &response), "BAD_OPTION");
  request.set_level("loud");
  EXPECT_EQ(Call(&Stub::SetLogLevel, request, &response), "BAD_OPTION");
}

}  // namespace
}  // namespace hotline::server
