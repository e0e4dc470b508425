// A validation check that callers could request only in the documentation.
//
// The contract says that an Acquire may carry a check of its own for the
// connection it gets. There was no field for it, so a caller could not verify a
// connection before it received the lease.
//
// Now the check is part of the key that makes connections interchangeable: a
// connection passes it when it is dialed, before it joins the pool. It never
// races with a borrower, and its failure costs no other caller anything.
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "server/broker/validate.h"
#include "server/daemon/warm_set.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

class AcquireValidateTest : public BrokerTest {
 protected:
  AcquireValidateTest() { target_config_.breaker_failures = 2; }

  // Answers "/bad" with 503, "/gone" by hanging up, all else with 200.
  ScriptedPeer::Script Serve() {
    return [this](PeerConnection& connection) {
      for (;;) {
        const std::string request = connection.ReadRequest();
        if (request.empty()) return;
        const std::string line = request.substr(0, request.find(" HTTP"));
        {
          std::lock_guard lock(mu_);
          lines_.push_back(line);
        }
        const auto asks_for = [&](const char* path) {
          return line.find(path) != std::string::npos;
        };
        if (asks_for(" /gone")) return;
        const bool head = line.starts_with("HEAD");
        connection.Write(asks_for(" /bad")
                             ? "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
                         : head ? "HTTP/1.1 204 Yes\r\n\r\n"
                                : OkResponse("x"));
      }
    };
  }
  std::unique_ptr<TestAcquire> Checked(const ScriptedPeer& peer,
                                       const std::string& path,
                                       const std::string& method = "",
                                       int min = 0, int max = 0) {
    auto call = std::make_unique<TestAcquire>();
    call->request.set_target(peer.target());
    v1::ConnectionCheck* const check = call->request.mutable_validate();
    check->set_path(path);
    check->set_method(method);
    if (min != 0) check->set_min_status(min);
    if (max != 0) check->set_max_status(max);
    Go(call.get());
    return call;
  }
  uint64_t GiveBack(TestAcquire* call) {
    EXPECT_EQ(call->Wait(), "OK");
    EXPECT_EQ(Release(call->response.lease().lease_id()), "OK");
    return call->response.connection().connection_id();
  }
  std::vector<std::string> Lines() {
    std::lock_guard lock(mu_);
    return lines_;
  }
  using Strings = std::vector<std::string>;

  std::mutex mu_;
  std::vector<std::string> lines_;
};

TEST_F(AcquireValidateTest, NewConnectionIsCheckedOnceAndSharedByEqualChecks) {
  ScriptedPeer peer(Serve());
  const uint64_t first = GiveBack(Checked(peer, "/ok?a=1").get());
  EXPECT_EQ(Lines(), Strings{"HEAD /ok?a=1"});
  // What is left out is the default, and no other check.
  EXPECT_EQ(GiveBack(Checked(peer, "/ok?a=1", "HEAD", 200, 399).get()), first);
  EXPECT_EQ(Lines().size(), 1u);
  EXPECT_EQ(peer.accepted(), 1);
}

TEST_F(AcquireValidateTest, DifferentChecksUseSeparateConnections) {
  ScriptedPeer peer(Serve());
  const uint64_t checked = GiveBack(Checked(peer, "/ok").get());
  EXPECT_NE(GiveBack(Checked(peer, "/ok", "GET").get()), checked);
  EXPECT_NE(GiveBack(Checked(peer, "/ok", "", 204, 204).get()), checked);
  EXPECT_NE(GiveBack(Acquire(peer.target()).get()), checked);
  EXPECT_EQ(Lines(), (Strings{"HEAD /ok", "GET /ok", "HEAD /ok"}));
}

TEST_F(AcquireValidateTest, ExecuteRunsOnTheCheckedLease) {
  ScriptedPeer peer(Serve());
  auto lease = Checked(peer, "/ok");
  ASSERT_EQ(lease->Wait(), "OK");
  TestExecute call;
  call.request.set_url(peer.target() + "/work");
  call.request.set_lease_id(lease->response.lease().lease_id());
  EXPECT_EQ(Go(&call)->Wait(), "OK");
  EXPECT_EQ(Lines(), (Strings{"HEAD /ok", "GET /work"}));
  GiveBack(lease.get());
}

TEST_F(AcquireValidateTest, StatusOutOfRangeFailsThePrecondition) {
  ScriptedPeer peer(Serve());
  auto call = Checked(peer, "/bad?secret=1");
  ASSERT_EQ(call->Wait(), "VALIDATION_FAILED");
  EXPECT_EQ(call->error().code, StatusCode::kFailedPrecondition);
  EXPECT_NE(call->error().message.find("503"), std::string::npos);
  // Others see that message in Stats.
  EXPECT_EQ(call->error().message.find("secret"), std::string::npos)
      << call->error().message;
  auto wanted = Checked(peer, "/bad", "", 503, 503);
  GiveBack(wanted.get());
}

// Its breaker would open at two, and its address be put out at five.
TEST_F(AcquireValidateTest, OneCallersCheckIsNotHeldAgainstTheTarget) {
  ScriptedPeer peer(Serve());
  for (int i = 0; i < 8; ++i) {
    const std::string path = (i % 2 == 0 ? "/bad" : "/gone");
    EXPECT_EQ(Checked(peer, path)->Wait(), "VALIDATION_FAILED");
  }
  EXPECT_EQ(Execute(peer)->Wait(), "OK");
  const pool::Snapshot look = Look();
  ASSERT_EQ(look.targets.size(), 1u);
  EXPECT_EQ(look.targets[0].counters.breaker_opened, 0u);
  for (const auto& row : upstream_->Addresses(look.targets[0].target)) {
    EXPECT_EQ(row.failures, 0u);
  }
}

// The pools of checks that nobody uses any more do not pile up.
TEST_F(AcquireValidateTest, PoolsAreBoundedByConnections) {
  ScriptedPeer peer(Serve());
  for (int i = 0; i < 40; ++i) {
    GiveBack(Checked(peer, "/ok?" + std::to_string(i)).get());
  }
  EXPECT_LE(
      Look().targets[0].connections[static_cast<int>(pool::ConnState::kReady)],
      target_config_.max_connections);
}

TEST(AcquireValidate, IsCheckedItself) {
  const auto wrong = [](const std::string& target, const std::string& path,
                        const std::string& method, int min, int max) {
    v1::AcquireRequest request;
    request.set_target(target);
    if (target.starts_with("t")) request.set_mode(v1::MODE_EXCLUSIVE);
    v1::ConnectionCheck* const check = request.mutable_validate();
    check->set_path(path);
    check->set_method(method);
    if (min >= 0) check->set_min_status(min);
    if (max >= 0) check->set_max_status(max);
    ParsedTarget parsed;
    const auto bad = ValidateAcquire(request, &parsed);
    return bad.has_value() ? bad->reason + (" " + bad->field) : "";
  };
  const std::string http = "http://a.test";
  EXPECT_EQ(wrong(http, "/", "", -1, -1), "");
  EXPECT_EQ(wrong(http, "/a?b=%20", "OPTIONS", 100, 599), "");
  EXPECT_EQ(wrong("https://a.test.:8443", "/", "GET", 404, -1),
            "BAD_OPTION validate");
  EXPECT_EQ(wrong(http, "", "", -1, -1), "BAD_OPTION validate.path");
  EXPECT_EQ(wrong(http, "a", "", -1, -1), "BAD_OPTION validate.path");
  EXPECT_EQ(wrong(http, "/a b", "", -1, -1), "BAD_OPTION validate.path");
  EXPECT_EQ(wrong(http, "/\r\nX: y", "", -1, -1), "BAD_OPTION validate.path");
  EXPECT_EQ(wrong(http, "/#a", "", -1, -1), "BAD_OPTION validate.path");
  EXPECT_EQ(wrong(http, "/" + std::string(2048, 'a'), "", -1, -1),
            "BAD_OPTION validate.path");
  EXPECT_EQ(wrong(http, "/", "POST", -1, -1), "BAD_OPTION validate.method");
  EXPECT_EQ(wrong(http, "/", "head", -1, -1), "BAD_OPTION validate.method");
  EXPECT_EQ(wrong(http, "/", "", 99, -1), "BAD_OPTION validate");
  EXPECT_EQ(wrong(http, "/", "", 300, 299), "BAD_OPTION validate");
  EXPECT_EQ(wrong(http, "/", "", -1, 600), "BAD_OPTION validate");
  EXPECT_EQ(wrong("tcp://a.test:1", "/", "", -1, -1), "BAD_OPTION validate");
  EXPECT_EQ(wrong("tls://a.test:1", "/", "", -1, -1), "BAD_OPTION validate");
}

TEST(AcquireValidate, TextComesBackAsItWas) {
  const pool::ConnectionCheck check =
      pool::CheckOfText(pool::ToText({"GET", "/a b-c 1-2", 100, 599}));
  EXPECT_EQ(check.method, "GET");
  EXPECT_EQ(check.path, "/a b-c 1-2");
  EXPECT_EQ(check.min_status, 100);
  EXPECT_EQ(check.max_status, 599);
}

TEST(AcquireValidate, OutlivesARestart) {
  WarmEntry entry;
  entry.key.target = "https://a.test:443";
  entry.key.options.validate = pool::ToText({"GET", "/ok", 200, 204});
  entry.connections = 2;
  const auto back = ParseWarmSet(FormatWarmSet({entry}));
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->size(), 1u);
  EXPECT_EQ((*back)[0], entry);
}

}  // namespace
}  // namespace hotline::server
