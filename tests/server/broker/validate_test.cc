#include "server/broker/validate.h"

#include <functional>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tests/fakes/rows.h"

namespace hotline::server {
namespace {

constexpr int64_t kMaxBody = 3 << 20;

// "reason field", or "" if the input is valid.
std::string Text(const std::optional<InputError>& error) {
  if (!error.has_value()) return "";
  EXPECT_NE(error->message, "") << error->reason << " " << error->field;
  return std::string(error->reason) + " " + error->field;
}

// Scheme, host and port as text, their canonical form, and the authority of a
// request.
struct OriginRow {
  std::string text;
  std::string canonical;
  std::string authority;
};

std::vector<OriginRow> GoodOrigins() {
  std::vector<OriginRow> origins;
  for (const auto& row :
       testing::ReadRows("tests/server/broker/valid_origins.tsv", 3, 32)) {
    origins.push_back({row[0], row[1], row[2]});
  }
  return origins;
}

std::vector<std::string> BadOrigins() {
  std::vector<std::string> origins;
  for (const auto& row :
       testing::ReadRows("tests/server/broker/invalid_origins.tsv", 1, 99)) {
    origins.push_back(testing::Unescape(row[0]));
  }
  return origins;
}

TEST(TargetTest, ValidTargetsHaveOneCanonicalForm) {
  for (const OriginRow& row : GoodOrigins()) {
    SCOPED_TRACE(row.text);
    ParsedTarget target;
    EXPECT_EQ(Text(ParseTarget(row.text, &target)), "");
    EXPECT_EQ(target.canonical, row.canonical);
    EXPECT_EQ(target.tls, row.canonical.substr(0, 6) == "https:");
    EXPECT_EQ(":" + std::to_string(target.port),
              row.canonical.substr(row.canonical.rfind(':')));

    // The canonical form is stable.
    ParsedTarget again;
    EXPECT_EQ(Text(ParseTarget(target.canonical, &again)), "");
    EXPECT_EQ(again.canonical, target.canonical);
    EXPECT_EQ(again.host, target.host);
  }
}

TEST(TargetTest, TheHostHasNoBrackets) {
  ParsedTarget target;
  EXPECT_EQ(Text(ParseTarget("https://[::1]:8443", &target)), "");
  EXPECT_EQ(target.host, "::1");
  EXPECT_EQ(Text(ParseTarget("https://Example.com.", &target)), "");
  EXPECT_EQ(target.host, "example.com");
}

TEST(TargetTest, InvalidTargetsAreRefused) {
  for (const std::string& text : BadOrigins()) {
    SCOPED_TRACE(text);
    ParsedTarget target;
    EXPECT_EQ(Text(ParseTarget(text, &target)), "BAD_TARGET target");
  }
}

TEST(TargetTest, RawTargetsNeedAPortAndAreNoUrls) {
  struct Row {
    const char* text;
    const char* canonical;
    bool tls;
  };
  for (const Row& row :
       {Row{"tls://example.com:993", "tls://example.com:993", true},
        Row{"TCP://Example.com.:80", "tcp://example.com.:80", false},
        Row{"tls://[::1]:443", "tls://[::1]:443", true}}) {
    SCOPED_TRACE(row.text);
    ParsedTarget target;
    EXPECT_EQ(Text(ParseTarget(row.text, &target)), "");
    EXPECT_EQ(target.canonical, row.canonical);
    EXPECT_EQ(target.tls, row.tls);
    EXPECT_TRUE(target.raw);
    ParsedUrl url;
    EXPECT_EQ(Text(ParseUrl(row.text, &url)), "BAD_URL url");
  }
  for (const char* text : {"tls://example.com", "tcp://[::1]", "tcp://h:",
                           "tcp://h:0", "tls://h:1/", "tcp://u@h:1"}) {
    SCOPED_TRACE(text);
    ParsedTarget target;
    EXPECT_EQ(Text(ParseTarget(text, &target)), "BAD_TARGET target");
  }
  ParsedTarget again;
  EXPECT_EQ(Text(ParseTarget("tcp://h:1", &again)), "");
  EXPECT_EQ(Text(ParseTarget("https://h", &again)), "");
  EXPECT_FALSE(again.raw);
}

TEST(TargetTest, NothingMayFollowThePort) {
  for (const char* rest : {"/", "/path", "?q", "#f", "/?#"}) {
    SCOPED_TRACE(rest);
    ParsedTarget target;
    EXPECT_EQ(
        Text(ParseTarget("https://example.com" + std::string(rest), &target)),
        "BAD_TARGET target");
    EXPECT_EQ(Text(ParseTarget("https://[::1]:1" + std::string(rest), &target)),
              "BAD_TARGET target");
  }
}

TEST(UrlTest, AnOriginMeansTheSameInAUrl) {
  for (const OriginRow& row : GoodOrigins()) {
    for (const char* path : {"", "/", "/a/b?c=d"}) {
      SCOPED_TRACE(row.text + path);
      ParsedUrl url;
      EXPECT_EQ(Text(ParseUrl(row.text + path, &url)), "");
      EXPECT_EQ(url.target.canonical, row.canonical);
      EXPECT_EQ(url.authority, row.authority);
      EXPECT_EQ(url.path, *path == '\0' ? "/" : path);
    }
  }
}

TEST(UrlTest, ABadOriginMakesABadUrl) {
  for (const std::string& text : BadOrigins()) {
    for (const char* path : {"", "/", "/a/b?c=d"}) {
      SCOPED_TRACE(text + path);
      ParsedUrl url;
      EXPECT_EQ(Text(ParseUrl(text + path, &url)), "BAD_URL url");
    }
  }
}

TEST(UrlTest, PathAndQueryAreNotChanged) {
  const struct {
    std::string rest, path;
  } rows[] = {
      {"", "/"},
      {"/", "/"},
      {"?", "/?"},
      {"?a=b", "/?a=b"},
      {"/a?", "/a?"},
      {"/a?b?c", "/a?b?c"},
      {"/a/../b/./c//d", "/a/../b/./c//d"},
      {"//other.example/x", "//other.example/x"},
      {"/a%20b%2F%2f%00", "/a%20b%2F%2f%00"},
      {"/a+b;c=d,e!$&'()*~-._:@", "/a+b;c=d,e!$&'()*~-._:@"},
      {"/{a}|\"<>^`\\[]", "/{a}|\"<>^`\\[]"},
      {"/https://x", "/https://x"},
      {"/a@b:c", "/a@b:c"},
      {"?x=https://y/z@", "/?x=https://y/z@"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.rest);
    ParsedUrl url;
    EXPECT_EQ(Text(ParseUrl("https://example.com" + row.rest, &url)), "");
    EXPECT_EQ(url.path, row.path);
    EXPECT_EQ(url.target.canonical, "https://example.com:443");
  }
}

TEST(UrlTest, BadPathsAreRefused) {
  const std::string rows[] = {
      "#",         "#fragment",
      "/a#",       "/a?b#c",
      "/a b",      "/a ",
      "/\t",       "/a\r\nHost: other",
      "/a\n",      std::string("/a\0b", 4),
      "/\x7f",     "/\x80",
      "/\xc3\xa9", "?a b",
      "/%",        "/%2",
      "/%2g",      "/%g2",
      "/%%20",     "/a%2",
      "/%u0041",
  };
  for (const std::string& rest : rows) {
    SCOPED_TRACE(rest);
    ParsedUrl url;
    EXPECT_EQ(Text(ParseUrl("https://example.com" + rest, &url)),
              "BAD_URL url");
  }
}

TEST(UrlTest, NothingPastTheEndOfTheTextIsRead) {
  const std::string_view text = "https://example.com/%20";
  for (size_t cut : {1, 2}) {
    ParsedUrl url;
    EXPECT_EQ(Text(ParseUrl(text.substr(0, text.size() - cut), &url)),
              "BAD_URL url");
  }
}

TEST(UrlTest, AUrlHasAtMost16KiB) {
  const std::string start = "https://example.com/";
  ParsedUrl url;
  EXPECT_EQ(
      Text(ParseUrl(start + std::string((16 << 10) - start.size(), 'a'), &url)),
      "");
  EXPECT_EQ(Text(ParseUrl(
                start + std::string((16 << 10) - start.size() + 1, 'a'), &url)),
            "BAD_URL url");
}

TEST(UrlTest, AParsedUrlCanBeReused) {
  ParsedUrl url;
  EXPECT_EQ(Text(ParseUrl("http://[::1]:8080/a?b", &url)), "");
  EXPECT_EQ(Text(ParseUrl("https://x", &url)), "");
  EXPECT_EQ(url.target.canonical, "https://x:443");
  EXPECT_EQ(url.target.host, "x");
  EXPECT_EQ(url.target.port, 443);
  EXPECT_TRUE(url.target.tls);
  EXPECT_EQ(url.authority, "x");
  EXPECT_EQ(url.path, "/");
}

// Merges each request of a file (protobuf text format) into `valid` and passes
// it to `validate`, which returns the error's text.
template <typename Message>
void CheckRequests(const std::string& path, size_t at_least,
                   const Message& valid,
                   const std::function<std::string(const Message&)>& validate) {
  for (const auto& row : testing::ReadRows(path, 3, at_least)) {
    SCOPED_TRACE(row[0]);
    Message request = valid;
    ASSERT_TRUE(
        google::protobuf::TextFormat::MergeFromString(row[1], &request));
    EXPECT_EQ(validate(request), row[2]);
  }
}

TEST(ValidateAcquireTest, FaultsAreNamedWithTheirField) {
  v1::AcquireRequest valid;
  valid.set_target("https://example.com");
  CheckRequests<v1::AcquireRequest>(
      "tests/server/broker/acquire_requests.tsv", 65, valid,
      [](const v1::AcquireRequest& request) {
        ParsedTarget target;
        return Text(ValidateAcquire(request, &target));
      });
}

std::string ExecuteFault(const v1::ExecuteRequest& request) {
  ParsedUrl url;
  return Text(ValidateExecute(request, kMaxBody, &url));
}

v1::ExecuteRequest ExecuteOf(const std::string& url) {
  v1::ExecuteRequest request;
  request.set_url(url);
  return request;
}

void AddHeader(v1::ExecuteRequest* request, const std::string& name,
               const std::string& value) {
  v1::Header* header = request->add_headers();
  header->set_name(name);
  header->set_value(value);
}

TEST(ValidateExecuteTest, FaultsAreNamedWithTheirField) {
  CheckRequests<v1::ExecuteRequest>("tests/server/broker/execute_requests.tsv",
                                    36, ExecuteOf("https://example.com:8443/a"),
                                    ExecuteFault);
}

TEST(ValidateExecuteTest, FaultyHeadersAreNamedWithTheirPlace) {
  for (const auto& row :
       testing::ReadRows("tests/server/broker/request_headers.tsv", 4, 36)) {
    SCOPED_TRACE(row[0]);
    // The faulty header is the second of two.
    v1::ExecuteRequest request = ExecuteOf("https://example.com:8443/a");
    AddHeader(&request, "accept", "");
    AddHeader(&request, testing::Unescape(row[1]), testing::Unescape(row[2]));
    EXPECT_EQ(ExecuteFault(request),
              row[3].empty() ? "" : "BAD_HEADER " + row[3]);
  }
}

TEST(ValidateExecuteTest, HostMayHaveTheDefaultPort) {
  v1::ExecuteRequest request = ExecuteOf("https://example.com/");
  AddHeader(&request, "host", "example.com:443");
  EXPECT_EQ(ExecuteFault(request), "");
}

TEST(ValidateExecuteTest, HeadersAreBoundedInNumberAndSize) {
  const struct {
    int headers;
    size_t bytes;  // Per header.
    const char* want;
  } rows[] = {
      {128, 10, ""},
      {129, 10, "BAD_HEADER headers"},
      {64, 1024, ""},
      {1, 65537, "BAD_HEADER headers"},
      {65, 1024, "BAD_HEADER headers"},
  };
  for (const auto& row : rows) {
    v1::ExecuteRequest request = ExecuteOf("https://example.com/");
    for (int i = 0; i < row.headers; ++i) {
      AddHeader(&request, "a", std::string(row.bytes - 1, 'v'));
    }
    EXPECT_EQ(ExecuteFault(request), row.want)
        << row.headers << " of " << row.bytes;
  }
}

TEST(ValidateExecuteTest, ReturnsTheParsedUrl) {
  v1::ExecuteRequest request;
  request.set_url("HTTPS://Example.com:8443?x");
  ParsedUrl url;
  EXPECT_EQ(Text(ValidateExecute(request, kMaxBody, &url)), "");
  EXPECT_EQ(url.target.canonical, "https://example.com:8443");
  EXPECT_EQ(url.path, "/?x");
}

TEST(ValidateExecuteTest, MessagesDoNotRepeatWhatWasSent) {
  v1::ExecuteRequest request;
  request.set_url("https://user:hunter2@example.com/");
  ParsedUrl url;
  const auto bad = ValidateExecute(request, kMaxBody, &url);
  ASSERT_TRUE(bad.has_value());
  EXPECT_EQ(bad->message.find("hunter2"), std::string::npos);
}

TEST(ValidateAcquireTest, RawTargetsNeedAnExclusiveLease) {
  v1::AcquireRequest request;
  ParsedTarget target;
  request.set_target("tls://h:1");
  EXPECT_EQ(Text(ValidateAcquire(request, &target)), "BAD_OPTION mode");
  request.set_mode(v1::MODE_EXCLUSIVE);
  EXPECT_EQ(Text(ValidateAcquire(request, &target)), "");
  request.mutable_options()->set_alpn("imap");
  EXPECT_EQ(Text(ValidateAcquire(request, &target)), "");
  request.mutable_options()->set_alpn(std::string(65, 'x'));
  EXPECT_EQ(Text(ValidateAcquire(request, &target)), "BAD_OPTION options.alpn");
  request.mutable_options()->set_alpn("a b");
  EXPECT_EQ(Text(ValidateAcquire(request, &target)), "BAD_OPTION options.alpn");
  request.set_target("tcp://h:1");
  request.mutable_options()->set_alpn("imap");
  EXPECT_EQ(Text(ValidateAcquire(request, &target)), "BAD_OPTION options.alpn");
}

TEST(ValidateTlsProfileTest, OnlyKnownNamesPass) {
  const std::set<std::string, std::less<>> known = {"default", "mine"};
  v1::ConnectionOptions options;
  EXPECT_FALSE(ValidateTlsProfile(options, known));
  options.set_tls_profile("mine");
  EXPECT_FALSE(ValidateTlsProfile(options, known));
  options.set_tls_profile("theirs");
  const auto fault = ValidateTlsProfile(options, known);
  ASSERT_TRUE(fault.has_value());
  EXPECT_STREQ(fault->reason, "BAD_OPTION");
  EXPECT_EQ(fault->field, "options.tls_profile");
}

TEST(ValidateStatsTest, FaultsAreNamedWithTheirField) {
  CheckRequests<v1::StatsRequest>("tests/server/broker/stats_requests.tsv", 7,
                                  v1::StatsRequest(),
                                  [](const v1::StatsRequest& request) {
                                    return Text(ValidateStats(request));
                                  });
}

TEST(ValidateReleaseTest, NamesALeaseOrAnAcquire) {
  using Release = v1::ReleaseRequest;
  const auto acquire = [](Release* r) {
    r->set_target("https://a.test");
    r->set_request_id("1");
  };
  const struct {
    const char* name;
    std::function<void(Release*)> change;
    const char* want;
  } rows[] = {
      {"a lease", [](Release* r) { r->set_lease_id("l"); }, ""},
      {"nothing", [](Release*) {}, ""},  // Reads as an empty lease id.
      {"an acquire", acquire, ""},
      {"with a client", [&](Release* r) { acquire(r), r->set_client_id("c"); },
       ""},
      {"both", [&](Release* r) { acquire(r), r->set_lease_id("l"); },
       "BAD_OPTION request_id"},
      {"a target alone", [](Release* r) { r->set_target("https://a.test"); },
       "BAD_OPTION request_id"},
      {"a lease and a client",
       [](Release* r) { r->set_lease_id("l"), r->set_client_id("c"); },
       "BAD_OPTION request_id"},
      {"no target", [](Release* r) { r->set_request_id("1"); },
       "BAD_TARGET target"},
      {"a bad target", [&](Release* r) { acquire(r), r->set_target("a.test"); },
       "BAD_TARGET target"},
      {"the longest id",
       [&](Release* r) { acquire(r), r->set_request_id(std::string(64, 'a')); },
       ""},
      {"too long an id",
       [&](Release* r) { acquire(r), r->set_request_id(std::string(65, 'a')); },
       "BAD_OPTION request_id"},
      {"too long a client",
       [&](Release* r) { acquire(r), r->set_client_id(std::string(129, 'a')); },
       "BAD_OPTION client_id"},
      {"an unknown outcome",
       [&](Release* r) { acquire(r), r->set_outcome(v1::Outcome(9)); },
       "BAD_OPTION outcome"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    Release request;
    row.change(&request);
    ParsedTarget target;
    EXPECT_EQ(Text(ValidateRelease(request, &target)), row.want);
  }
}

TEST(ValidateOutcomeTest, UnknownOutcomesAreRefused) {
  for (int n : {0, 1, 2, 3}) {
    EXPECT_EQ(Text(ValidateOutcome(static_cast<v1::Outcome>(n))), "");
  }
  for (int n : {-1, 4, 1 << 30}) {
    EXPECT_EQ(Text(ValidateOutcome(static_cast<v1::Outcome>(n))),
              "BAD_OPTION outcome");
  }
}

}  // namespace
}  // namespace hotline::server
