// The command line, run in this process against a fake broker.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/command_line.h"
#include "tests/client/fake_broker.h"

namespace hotline::client {
namespace {

using grpc::Status;
using grpc::StatusCode;
using testing::HasSubstr;
using testing::Not;

TEST_F(CommandLineTest, GetPrintsTheBodyAndNothingElse) {
  UpstreamAnswers(404, std::string("raw\0bytes", 9));
  const Result result = Hotline({"get", "https://a.test/x"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(result.out, std::string("raw\0bytes", 9));
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(LastExecute().url(), "https://a.test/x");
  EXPECT_EQ(LastExecute().method(), "GET");
}

// Characters that control a terminal: C0, DEL, C1, direction marks.
const std::string kNasty = "\x1b[2J\x7f\u009b31m\u202e\u2066 end";
const std::string kShown = "\\u001b[2J\\u007f\\u009b31m\\u202e\\u2066 end";

TEST_F(CommandLineTest, OnATerminalControlCharactersOfTheBodyAreEscaped) {
  const std::string bytes("line\r\n\xff\0\u00e9", 10);
  UpstreamAnswers(200, kNasty + bytes);
  const std::vector<std::string> get = {"hotline", "-a", broker_.address(),
                                        "get", "https://a.test/"};
  EXPECT_EQ(Raw(get, "", false, true).out,
            kShown + "line\r\n\\xff\\u0000\u00e9");
  EXPECT_EQ(Raw(get).out, kNasty + bytes);
  std::vector<std::string> raw = get;
  raw.insert(raw.end(), {"-o", "-"});
  EXPECT_EQ(Raw(raw, "", false, true).out, kNasty + bytes);
  std::vector<std::string> cut = get;
  cut.insert(cut.end(), {"--max-bytes", "1000"});
  EXPECT_EQ(Raw(cut, "", false, true).out,
            kShown + "line\r\n\\xff\\u0000\u00e9");
}

TEST_F(CommandLineTest, ControlCharactersOfTheHeadAreEscaped) {
  broker_.execute.Answer([](const auto&, auto* response, int) {
    response->set_status(200);
    v1::Header* header = response->add_headers();
    header->set_name("x-" + kNasty);
    header->set_value(kNasty + "\r\n\xff");
    response->set_body("body");
    return Status::OK;
  });
  EXPECT_EQ(Hotline({"get", "-i", "https://a.test/"}).out,
            "HTTP/1.1 200\r\nx-" + kShown + ": " + kShown +
                "\\r\\n\\xff\r\n\r\nbody");
}

TEST_F(CommandLineTest, StatsEscapeTextOfCallers) {
  broker_.stats.Answer([](const auto&, auto* response, int) {
    v1::LeaseStats* lease = response->add_leases();
    lease->set_target("https://" + kNasty);
    lease->mutable_holder()->set_client_id("client\r\n" + kNasty);
    lease->mutable_holder()->set_purpose(kNasty);
    lease->mutable_holder()->set_trace(kNasty);
    v1::TargetStats* target = response->add_targets();
    target->set_target("https://t");
    target->set_last_dial_error("error\n" + kNasty);
    target->add_addresses()->set_why("why\n" + kNasty);
    v1::ConnectionStats* connection = response->add_connections();
    connection->mutable_options()->set_sni(kNasty);
    response->set_instance("i\n" + kNasty);
    return Status::OK;
  });
  const std::pair<const char*, std::string> views[] = {
      {"leases", "client\\r\\n" + kShown},
      {"targets", "why\\n" + kShown},
      {"connections", kShown},
      {"summary", "i\\n" + kShown + ", up"}};
  for (const auto& [view, part] : views) {
    for (const char* form : {"table", "json"}) {
      const Result result =
          Hotline({"stats", "--view", view, "--output", form});
      EXPECT_EQ(result.code, kExitOk) << result.err;
      for (const char* bad :
           {"\x1b", "\x7f", "\r", "\u009b", "\u202e", "\u2066"}) {
        EXPECT_THAT(result.out, Not(HasSubstr(bad))) << view << form;
      }
      if (form == std::string("table")) {
        EXPECT_THAT(result.out, HasSubstr(part));
      }
    }
  }
}

TEST_F(CommandLineTest, ErrorsAreEscaped) {
  broker_.acquire.Answer([](const auto&, auto*, int) {
    return Status(StatusCode::INVALID_ARGUMENT, "bad\r\nforged " + kNasty);
  });
  const Result result = Hotline({"acquire", "https://a.test"});
  EXPECT_THAT(result.err, HasSubstr("bad\\r\\nforged " + kShown));
  EXPECT_THAT(Hotline({"no\x1b[2Jsuch"}).err, Not(HasSubstr("\x1b")));
}

TEST_F(CommandLineTest, InvalidUtf8IsAUsageError) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{
           {"acquire", "https://a.test", "--client-id", "a\xff"},
           {"acquire", "https://a.test", "--purpose", "\xc3"},
           {"get", "https://a.test/\xff"},
           {"get", "https://a.test/", "-H", "X\xff: y"},
           {"get", "https://a.test/", "-X", "\xff"},
           {"release", "\xff"},
           {"stats", "--target", "\xff"}}) {
    const Result result = Hotline(words);
    EXPECT_EQ(result.code, kExitUsage) << testing::PrintToString(words);
  }
  UpstreamAnswers(200, "ok");
  EXPECT_EQ(
      Hotline({"get", "https://a.test/", "-H", "X: \xff", "-d", "\xff"}).code,
      kExitOk);
  EXPECT_EQ(LastExecute().body(), "\xff");
}

TEST_F(CommandLineTest, GetSendsMethodHeadersAndBody) {
  UpstreamAnswers(200, "");
  const Result result =
      Hotline({"get", "-X", "PUT", "-H", "Content-Type: a/b", "-H", "X-Empty;",
               "-H", "X-Colon: 1:2", "-d", "one", "-d", "@-", "--lease", "L",
               "https://a.test/"},
              "two\n");
  EXPECT_EQ(result.code, kExitOk) << result.err;
  const v1::ExecuteRequest request = LastExecute();
  EXPECT_EQ(request.method(), "PUT");
  EXPECT_EQ(request.body(), "one&two\n");
  EXPECT_EQ(request.lease_id(), "L");
  ASSERT_EQ(request.headers_size(), 3);
  EXPECT_EQ(request.headers(0).name(), "Content-Type");
  EXPECT_EQ(request.headers(0).value(), "a/b");
  EXPECT_EQ(request.headers(1).name(), "X-Empty");
  EXPECT_EQ(request.headers(1).value(), "");
  EXPECT_EQ(request.headers(2).value(), "1:2");
}

TEST_F(CommandLineTest, GetWithDataIsAFormPost) {
  UpstreamAnswers(200, "");
  Hotline({"get", "-d", "a=1", "https://a.test/"});
  EXPECT_EQ(LastExecute().method(), "POST");
  EXPECT_EQ(LastExecute().headers(0).value(),
            "application/x-www-form-urlencoded");
}

TEST_F(CommandLineTest, GetReadsAFileAndWritesAFile) {
  UpstreamAnswers(200, "answer");
  const std::string dir = testing::TempDir();
  const std::string in = dir + "/get_in", out = dir + "/get_out";
  std::ofstream(in) << "file\nbody";
  const Result result =
      Hotline({"get", "-d", "@" + in, "-o", out, "https://a.test/"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(LastExecute().body(), "file\nbody");
  std::ifstream written(out);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(written), {}), "answer");
  EXPECT_EQ(Hotline({"get", "-d", "@/no/such", "https://a.test/"}).code,
            kExitUsage);
  EXPECT_EQ(Hotline({"get", "-o", "/no/such/x", "https://a.test/"}).code,
            kExitFailed);
}

TEST_F(CommandLineTest, GetUploadsAFileOfAnyLength) {
  UpstreamAnswers(201, "stored");
  std::string body(5 << 20, 'x');
  for (size_t i = 0; i < body.size(); i += 101) body[i] = 'a' + i % 26;
  const std::string path = testing::TempDir() + "/upload";
  std::ofstream(path, std::ios::binary) << body;
  const Result result = Hotline({"get", "-T", path, "https://a.test/"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(result.out, "stored");
  EXPECT_EQ(LastExecute().method(), "PUT");
  EXPECT_TRUE(LastExecute().body() == body);
  EXPECT_EQ(LastExecute().headers_size(), 0);
  EXPECT_EQ(broker_.content_lengths().back(), 5 << 20);
  EXPECT_EQ(broker_.longest_piece(), 256u << 10);
  EXPECT_EQ(Hotline({"get", "-T", "/no/such", "https://a.test/"}).code,
            kExitUsage);
  EXPECT_EQ(Hotline({"get", "-T", "/tmp", "https://a.test/"}).code, kExitUsage);
  EXPECT_EQ(Hotline({"get", "-T", "-", "-d", "x", "https://a.test/"}).code,
            kExitUsage);
}

TEST_F(CommandLineTest, GetUploadsStandardInputOfUnknownLength) {
  UpstreamAnswers(200, "");
  Hotline({"get", "-T", "-", "-X", "POST", "https://a.test/"}, "piped");
  EXPECT_EQ(LastExecute().method(), "POST");
  EXPECT_EQ(LastExecute().body(), "piped");
  EXPECT_EQ(broker_.content_lengths().back(), -1);
  Hotline({"get", "https://a.test/"});
  EXPECT_EQ(broker_.content_lengths().back(), -1);
  Hotline({"get", "-d", "", "https://a.test/"});
  EXPECT_EQ(broker_.content_lengths().back(), 0);
}

TEST_F(CommandLineTest, GetReportsAnIncompleteAnswer) {
  broker_.execute.Answer([](const auto&, auto* response, int) {
    response->set_status(200);
    response->set_body("half");
    response->set_truncated(true);
    return Status::OK;
  });
  const Result result = Hotline({"get", "https://a.test/"});
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_EQ(result.out, "half");
  EXPECT_THAT(result.err, HasSubstr("has no end"));
}

TEST_F(CommandLineTest, DataThatIsTooLongForMemoryIsRefused) {
  const std::string path = testing::TempDir() + "/too_long";
  std::ofstream(path, std::ios::binary) << std::string((3 << 20) + 1, 'x');
  const Result result = Hotline({"get", "-d", "@" + path, "https://a.test/"});
  EXPECT_EQ(result.code, kExitUsage);
  EXPECT_THAT(result.err, HasSubstr("-T"));
}

TEST_F(CommandLineTest, GetShowsTheHeadWhenAsked) {
  UpstreamAnswers(200, "body");
  EXPECT_EQ(Hotline({"get", "-i", "https://a.test/"}).out,
            "HTTP/1.1 200\r\nx-a: b\r\n\r\nbody");
  Hotline({"get", "-I", "https://a.test/"});
  EXPECT_EQ(LastExecute().method(), "HEAD");
}

TEST_F(CommandLineTest, GetPrintsTheReceiptOnStandardError) {
  UpstreamAnswers(200, "body");
  const Result result = Hotline({"get", "--receipt", "https://a.test/"});
  EXPECT_EQ(result.out, "body");
  EXPECT_THAT(result.err, HasSubstr("status     200, 4 bytes"));
  EXPECT_THAT(result.err, HasSubstr("connection #9"));
  EXPECT_THAT(result.err, HasSubstr("attempts   1"));
}

TEST_F(CommandLineTest, GetFailsOnAnHttpErrorOnlyWhenAsked) {
  UpstreamAnswers(503, "sorry");
  EXPECT_EQ(Hotline({"get", "https://a.test/"}).code, kExitOk);
  const Result result = Hotline({"get", "--fail", "https://a.test/"});
  EXPECT_EQ(result.code, kExitHttpError);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("503"));
}

TEST_F(CommandLineTest, GetSendsItsLimits) {
  UpstreamAnswers(200, "");
  Hotline({"get",         "--max-time",   "5",
           "--max-bytes", "10",           "--max-attempts",
           "1",           "--idempotent", "--sni",
           "b.test",      "--pool-group", "g",
           "--alpn",      "h2",           "--tls-profile",
           "modern",      "--remote-ip",  "192.0.2.1",
           "--source-ip", "192.0.2.2",    "https://a.test/"});
  EXPECT_LE(broker_.execute.remaining_ms().back(), 5100);
  EXPECT_GT(broker_.execute.remaining_ms().back(), 3000);
  EXPECT_EQ(LastExecute().max_response_bytes(), 10);
  EXPECT_EQ(LastExecute().retry().max_attempts(), 1);
  EXPECT_TRUE(LastExecute().retry().idempotent());
  EXPECT_EQ(LastExecute().options().sni(), "b.test");
  EXPECT_EQ(LastExecute().options().pool_group(), "g");
  EXPECT_EQ(LastExecute().options().alpn(), "h2");
  EXPECT_EQ(LastExecute().options().tls_profile(), "modern");
  EXPECT_EQ(LastExecute().options().remote_ip(), "192.0.2.1");
  EXPECT_EQ(LastExecute().options().source_ip(), "192.0.2.2");
}

TEST_F(CommandLineTest, AcquirePrintsTheLeaseAndKeepsIt) {
  const Result result = Hotline({"acquire", "https://a.test", "--ttl", "1m",
                                 "--exclusive", "--no-wait", "--require-warm",
                                 "--client-id", "me", "--purpose", "test"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(result.out, "abc123\n");
  EXPECT_TRUE(broker_.release.requests().empty());
  const v1::AcquireRequest request = broker_.acquire.requests()[0];
  EXPECT_EQ(request.target(), "https://a.test");
  EXPECT_EQ(request.lease_ttl().seconds(), 60);
  EXPECT_EQ(request.mode(), v1::MODE_EXCLUSIVE);
  EXPECT_TRUE(request.has_max_wait());
  EXPECT_EQ(request.max_wait().seconds(), 0);
  EXPECT_EQ(request.reuse(), v1::REUSE_REQUIRE_WARM);
  EXPECT_EQ(request.holder().client_id(), "me");
  EXPECT_EQ(request.holder().purpose(), "test");
}

TEST_F(CommandLineTest, AcquireThatCannotPrintGivesTheLeaseBack) {
  const std::string address = broker_.address();
  const char* argv[] = {"hotline", "--address", address.c_str(), "acquire",
                        "https://a.test"};
  std::istringstream in;
  std::ostringstream out, err;
  out.setstate(std::ios::badbit);
  EXPECT_EQ(RunCommandLine(5, argv, {.in = in, .out = out, .err = err}),
            kExitFailed);
  EXPECT_EQ(broker_.release.requests().size(), 1u);
}

TEST_F(CommandLineTest, ReleaseSendsItsOutcome) {
  EXPECT_EQ(Hotline({"release", "abc", "--outcome", "discard"}).code, kExitOk);
  EXPECT_EQ(broker_.release.requests()[0].lease_id(), "abc");
  EXPECT_EQ(broker_.release.requests()[0].outcome(), v1::OUTCOME_DISCARD);
  EXPECT_EQ(Hotline({"release", "-"}, "from-stdin\n").code, kExitOk);
  EXPECT_EQ(broker_.release.requests()[1].lease_id(), "from-stdin");
  EXPECT_EQ(broker_.release.requests()[1].outcome(), v1::OUTCOME_OK);
  EXPECT_EQ(Hotline({"release", "abc", "--outcome", "fine"}).code, kExitUsage);
}

TEST_F(CommandLineTest, ReleaseNamesTheAcquireInsteadOfItsLease) {
  EXPECT_EQ(Hotline({"release", "--target", "https://a.test", "--request-id",
                     "7", "--client-id", "me", "--outcome", "broken"})
                .code,
            kExitOk);
  EXPECT_EQ(Hotline({"acquire", "https://a.test", "--request-id", "7"}).code,
            kExitOk);
  EXPECT_EQ(
      Hotline({"release", "--target", "https://a.test", "--request-id", "7"})
          .code,
      kExitOk);
  const auto requests = broker_.release.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].lease_id(), "");
  EXPECT_EQ(requests[0].target(), "https://a.test");
  EXPECT_EQ(requests[0].request_id(), "7");
  EXPECT_EQ(requests[0].client_id(), "me");
  EXPECT_EQ(requests[0].outcome(), v1::OUTCOME_BROKEN);
  EXPECT_EQ(requests[1].client_id(),
            broker_.acquire.requests().at(0).holder().client_id())
      << "the defaults of both commands name the same acquire";
}

TEST_F(CommandLineTest, RenewSendsTheNewTtl) {
  EXPECT_EQ(Hotline({"renew", "abc", "--ttl", "90"}).code, kExitOk);
  EXPECT_EQ(broker_.renew.requests()[0].lease_ttl().seconds(), 90);
}

TEST_F(CommandLineTest, StatsReadsAllPages) {
  broker_.stats.Answer([](const auto& request, auto* response, int call) {
    EXPECT_EQ(request.view(), v1::STATS_VIEW_LEASES);
    EXPECT_EQ(request.page_token(), call == 1 ? "" : "next");
    response->mutable_totals()->set_max_connections(7);
    response->add_leases()->set_target("https://t" + std::to_string(call));
    if (call == 1) response->set_next_page_token("next");
    return Status::OK;
  });
  const Result result =
      Hotline({"stats", "--view", "leases", "--output", "json"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_THAT(result.out, HasSubstr("https://t1"));
  EXPECT_THAT(result.out, HasSubstr("https://t2"));
  EXPECT_THAT(result.out, HasSubstr("\"max_connections\": 7"));
  EXPECT_THAT(result.out, HasSubstr("\"next_page_token\": \"\""));
}

TEST_F(CommandLineTest, StatsIsATableForPeople) {
  broker_.stats.Answer([](const auto&, auto* response, int) {
    response->add_targets()->set_target("https://t");
    return Status::OK;
  });
  const Result result = Hotline({"stats"});
  EXPECT_THAT(result.out, HasSubstr("TARGET"));
  EXPECT_THAT(result.out, HasSubstr("https://t"));
  EXPECT_THAT(result.out, Not(HasSubstr("\033")));
  EXPECT_THAT(Raw({"hotline", "-a", broker_.address(), "stats"}, "", true).out,
              HasSubstr("\033[1mTARGET"));
}

TEST_F(CommandLineTest, HealthSetsTheExitCode) {
  using grpc::health::v1::HealthCheckResponse;
  broker_.health.Answer([](const auto& request, auto* response, int) {
    if (request.service() == "x") return Status(StatusCode::NOT_FOUND, "");
    response->set_status(HealthCheckResponse::SERVING);
    return Status::OK;
  });
  EXPECT_EQ(Hotline({"health"}).code, kExitOk);
  EXPECT_EQ(Hotline({"health"}).out, "SERVING\n");
  EXPECT_EQ(Hotline({"health", "--service", "x"}).code, kExitFailed);
}

struct ErrorCase {
  StatusCode code;
  const char* reason;
  int exit_code;
};

TEST_F(CommandLineTest, EachErrorHasItsExitCodeAndItsLine) {
  const ErrorCase cases[] = {
      {StatusCode::INVALID_ARGUMENT, "BAD_URL", kExitUsage},
      {StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", kExitRefused},
      {StatusCode::PERMISSION_DENIED, "EGRESS_DENIED", kExitRefused},
      {StatusCode::FAILED_PRECONDITION, "LEASE_BUSY", kExitRefused},
      {StatusCode::FAILED_PRECONDITION, "TLS_VERIFY_FAILED", kExitUpstream},
      {StatusCode::DEADLINE_EXCEEDED, "WAIT_TIMEOUT", kExitDeadline},
      {StatusCode::UNAVAILABLE, "CONNECT_FAILED", kExitUpstream},
      {StatusCode::ABORTED, "UPSTREAM_RESET", kExitUpstream},
      {StatusCode::INTERNAL, "PROTOCOL_ERROR", kExitUpstream},
      {StatusCode::NOT_FOUND, "LEASE_EXPIRED", kExitNotFound},
      {StatusCode::NOT_FOUND, "TARGET_UNKNOWN", kExitNotFound},
      {StatusCode::UNAVAILABLE, "DRAINING", kExitRefused},
      {StatusCode::UNAVAILABLE, "ADDRESS_BLOCKED", kExitRefused},
      {StatusCode::UNAVAILABLE, "CIRCUIT_OPEN", kExitRefused},
      {StatusCode::UNAVAILABLE, "DNS_FAILED", kExitUpstream},
      {StatusCode::RESOURCE_EXHAUSTED, "OVERLOADED", kExitRefused},
      {StatusCode::RESOURCE_EXHAUSTED, "QUOTA", kExitRefused},
      {StatusCode::UNAUTHENTICATED, "NO_IDENTITY", kExitRefused},
      {StatusCode::ABORTED, "SUPERSEDED", kExitRefused},
      {StatusCode::FAILED_PRECONDITION, "LEASE_NOT_EXCLUSIVE", kExitRefused},
      {StatusCode::FAILED_PRECONDITION, "LEASE_OTHER_INSTANCE", kExitNotFound},
      {StatusCode::FAILED_PRECONDITION, "UPGRADE_REFUSED", kExitUpstream},
  };
  for (const ErrorCase& c : cases) {
    broker_.execute.Answer([&c](const auto&, auto*, int) {
      return BrokerError(c.code, c.reason, "what happened");
    });
    const Result result = Hotline({"get", "https://a.test/"});
    EXPECT_EQ(result.code, c.exit_code) << c.reason;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err,
              std::string("hotline: ") + c.reason + ": what happened\n");
  }
}

TEST_F(CommandLineTest, AWaitTimeoutIsExplained) {
  broker_.acquire.Answer([](const auto&, auto*, int) {
    v1::WaitExplanation wait;
    wait.set_limit("target_connections");
    wait.set_limit_value(10);
    return BrokerError(StatusCode::DEADLINE_EXCEEDED, "WAIT_TIMEOUT",
                       "waited 1 s", {&wait});
  });
  const Result result = Hotline({"acquire", "https://a.test"});
  EXPECT_EQ(result.code, kExitDeadline);
  EXPECT_THAT(result.err,
              HasSubstr("waited for target_connections (limit 10)"));
}

TEST_F(CommandLineTest, AnAbsentBrokerAndAFailedUpstreamDiffer) {
  broker_.Stop();
  const Result result = Hotline({"stats"});
  EXPECT_EQ(result.code, kExitUnreachable);
  EXPECT_THAT(result.err, HasSubstr(broker_.address()));
}

TEST_F(CommandLineTest, AUsageErrorExitsWithTwo) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{
           {"hotline"},
           {"hotline", "nonsense"},
           {"hotline", "get"},
           {"hotline", "get", "u", "--nonsense"},
           {"hotline", "get", "u", "--max-time", "soon"},
           {"hotline", "get", "u", "-H", "no colon"},
           {"hotline", "get", "u", "--max-attempts", "11"},
           {"hotline", "get", "u", "-T", "-", "--max-bytes", "1"},
           {"hotline", "acquire", "t", "--force-new", "--require-warm"},
           {"hotline", "acquire", "t", "--no-wait", "--max-wait", "1"},
           {"hotline", "release"},
           {"hotline", "release", "--request-id", "7"},
           {"hotline", "release", "--target", "t"},
           {"hotline", "release", "l", "--target", "t", "--request-id", "7"},
           {"hotline", "release", "l", "--client-id", "me"},
           {"hotline", "stats", "--view", "all"},
           {"hotline", "--address", "nowhere", "stats"}}) {
    const Result result = Raw(words);
    EXPECT_EQ(result.code, kExitUsage) << testing::PrintToString(words);
    EXPECT_EQ(result.err.compare(0, 9, "hotline: "), 0) << result.err;
  }
}

TEST_F(CommandLineTest, TheAddressMayComeFromTheEnvironment) {
  UpstreamAnswers(200, "hello");
  setenv("HOTLINE_ADDRESS", broker_.address().c_str(), 1);
  EXPECT_EQ(Raw({"hotline", "get", "https://a.test/"}).out, "hello");
  unsetenv("HOTLINE_ADDRESS");
}

TEST_F(CommandLineTest, GlobalOptionsMayFollowTheCommand) {
  UpstreamAnswers(200, "hello");
  EXPECT_EQ(
      Raw({"hotline", "get", "https://a.test/", "--address", broker_.address()})
          .out,
      "hello");
}

TEST_F(CommandLineTest, HelpAndVersionGoToStandardOutput) {
  EXPECT_THAT(Raw({"hotline", "--help"}).out, HasSubstr("Exit status:"));
  EXPECT_EQ(Raw({"hotline", "--help"}).code, kExitOk);
  EXPECT_THAT(Raw({"hotline", "--version"}).out, HasSubstr("hotline "));
  for (const char* command :
       {"get", "acquire", "release", "renew", "stats", "health"}) {
    EXPECT_THAT(Raw({"hotline", command, "--help"}).out, HasSubstr("Examples:"))
        << command;
  }
}

TEST_F(CommandLineTest, ErrorsAreColouredOnATerminalOnly) {
  EXPECT_THAT(Raw({"hotline"}, "", true).err, HasSubstr("\033["));
  EXPECT_THAT(Raw({"hotline"}, "", false).err, Not(HasSubstr("\033[")));
}

}  // namespace
}  // namespace hotline::client
