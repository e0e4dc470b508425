#include "server/broker/validate.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

constexpr int64_t kMaxBody = 3 << 20;

// "reason field", or "" if the input is valid.
std::string Text(const std::optional<InputError>& error) {
  if (!error.has_value()) return "";
  EXPECT_NE(error->message, "") << error->reason << " " << error->field;
  return std::string(error->reason) + " " + error->field;
}

std::string Label(size_t size) { return std::string(size, 'a'); }

// A name of `size` bytes in labels of at most 63.
std::string Name(size_t size) {
  std::string name = Label(size);
  for (size_t dot = 63; dot < size - 1; dot += 64) name[dot] = '.';
  return name;
}

// Scheme, host and port as text, and their canonical form; "" if they are
// refused.
struct OriginRow {
  std::string text;
  std::string canonical;
  std::string authority;
};

std::vector<OriginRow> GoodOrigins() {
  return {
      {"https://example.com", "https://example.com:443", "example.com"},
      {"http://example.com", "http://example.com:80", "example.com"},
      {"https://example.com:443", "https://example.com:443", "example.com"},
      {"http://example.com:80", "http://example.com:80", "example.com"},
      {"http://example.com:443", "http://example.com:443", "example.com:443"},
      {"https://example.com:80", "https://example.com:80", "example.com:80"},
      {"https://example.com:1", "https://example.com:1", "example.com:1"},
      {"https://example.com:65535", "https://example.com:65535",
       "example.com:65535"},
      {"HTTPS://EXAMPLE.Com", "https://example.com:443", "example.com"},
      {"hTtP://x", "http://x:80", "x"},
      // A target of its own: see trailing_dot_test.
      {"https://example.com.", "https://example.com.:443", "example.com"},
      {"https://example.com.:8443", "https://example.com.:8443",
       "example.com:8443"},
      {"https://_srv._tcp.a-b.c_d", "https://_srv._tcp.a-b.c_d:443",
       "_srv._tcp.a-b.c_d"},
      {"https://xn--bcher-kva.example", "https://xn--bcher-kva.example:443",
       "xn--bcher-kva.example"},
      {"https://1.example", "https://1.example:443", "1.example"},
      {"https://127.0.0.1.example", "https://127.0.0.1.example:443",
       "127.0.0.1.example"},
      {"https://0x7f.example", "https://0x7f.example:443", "0x7f.example"},
      {"https://0x7g", "https://0x7g:443", "0x7g"},
      {"https://1a", "https://1a:443", "1a"},
      {"https://127.0.0.1", "https://127.0.0.1:443", "127.0.0.1"},
      {"https://0.0.0.0", "https://0.0.0.0:443", "0.0.0.0"},
      {"https://255.255.255.255:9", "https://255.255.255.255:9",
       "255.255.255.255:9"},
      {"https://[::1]", "https://[::1]:443", "[::1]"},
      {"https://[::1]:8443", "https://[::1]:8443", "[::1]:8443"},
      {"http://[::]:80", "http://[::]:80", "[::]"},
      {"https://[2001:DB8:0:0:0:0:0:1]", "https://[2001:db8::1]:443",
       "[2001:db8::1]"},
      {"https://[2001:0db8:0000::0001]", "https://[2001:db8::1]:443",
       "[2001:db8::1]"},
      {"https://[::ffff:127.0.0.1]", "https://[::ffff:127.0.0.1]:443",
       "[::ffff:127.0.0.1]"},
      {"https://[::ffff:7f00:1]", "https://[::ffff:127.0.0.1]:443",
       "[::ffff:127.0.0.1]"},
      {"https://" + Label(63), "https://" + Label(63) + ":443", Label(63)},
      {"https://" + Name(253), "https://" + Name(253) + ":443", Name(253)},
      {"https://" + Name(253) + ".", "https://" + Name(253) + ".:443",
       Name(253)},
  };
}

std::vector<std::string> BadOrigins() {
  using std::string;
  return {
      "",
      "example.com",
      "example.com:443",
      "//example.com",
      "https:example.com",
      "https:/example.com",
      "https//example.com",
      "ftp://example.com",
      "tls//example.com:443",
      "tcps://example.com:443",
      "wss://example.com",
      " https://example.com",
      "https ://example.com",
      "https://",
      "https://:443",
      "https://.",
      "https://..",
      "https://.example.com",
      "https://example..com",
      "https://example.com..",
      "https://exa mple.com",
      "https://example.com ",
      "https://exam\tple.com",
      "https://example.com\r\n",
      string("https://exam\0ple.com", 20),
      "https://b\xc3\xbc"
      "cher.example",
      "https://exa%6dple.com",
      "https://example,com",
      "https://*.example.com",
      "https://exa+mple.com",
      "https://example.com\\",
      "https://-example.com",
      "https://example-.com",
      "https://example.com-",
      "https://" + Label(64),
      "https://" + Label(64) + ".com",
      "https://" + Name(254),
      "https://user@example.com",
      "https://user:secret@example.com",
      "https://@example.com",
      "https://127.1",
      "https://127.0.1",
      "https://127.0.0.1.",
      "https://127.0.0.1.2",
      "https://127.0.0.01",
      "https://0177.0.0.1",
      "https://0x7f.0.0.1",
      "https://0x7f.1",
      "https://0x7f000001",
      "https://0X7F000001",
      "https://0x",
      "https://example.0x1f",
      "https://2130706433",
      "https://017700000001",
      "https://256.0.0.1",
      "https://1.2.3.1000",
      "https://1.2.3.4294967297",
      "https://1.2.3",
      "https://example.123",
      "https://1",
      "https://0",
      "https://example.com:",
      "https://example.com:0",
      "https://example.com:65536",
      "https://example.com:99999",
      "https://example.com:100000",
      "https://example.com:4294967739",
      "https://example.com:0443",
      "https://example.com:+443",
      "https://example.com:-1",
      "https://example.com: 443",
      "https://example.com:443 ",
      "https://example.com:https",
      "https://example.com:0x1bb",
      "https://example.com:443:443",
      "https://::1",
      "https://::1:443",
      "https://[::1",
      "https://::1]",
      "https://[]",
      "https://[::1]443",
      "https://[::1].",
      "https://[::1]:",
      "https://[::1]:0",
      "https://[[::1]]",
      "https://[::1]]",
      "https://[fe80::1%25eth0]",
      "https://[fe80::1%eth0]",
      "https://[127.0.0.1]",
      "https://[example.com]",
      "https://[v1.x]",
      "https://[1:2:3:4:5:6:7]",
      "https://[1:2:3:4:5:6:7:8:9]",
      "https://[::12345]",
      "https://[::1 ]",
      "https://[::ffff:127.1]",
      "https://[::ffff:127.0.0.01]",
      string("https://[::1\0]", 14),
      "https://[" + string(100, '1') + "]",
  };
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

TEST(UrlTest, NothingBehindTheTextIsRead) {
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

TEST(UrlTest, AParsedUrlCanBeFilledAnew) {
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

// A valid message, modified by `change`.
template <typename Message>
struct Row {
  const char* name;
  std::function<void(Message*)> change;
  std::string want;
};

google::protobuf::Duration Length(int64_t seconds, int32_t nanos) {
  google::protobuf::Duration length;
  length.set_seconds(seconds);
  length.set_nanos(nanos);
  return length;
}

using Acquire = v1::AcquireRequest;

TEST(ValidateAcquireTest, FaultsAreNamedWithTheirField) {
  const auto ttl = [](int64_t seconds, int32_t nanos) {
    return
        [=](Acquire* r) { *r->mutable_lease_ttl() = Length(seconds, nanos); };
  };
  const auto wait = [](int64_t seconds, int32_t nanos) {
    return [=](Acquire* r) { *r->mutable_max_wait() = Length(seconds, nanos); };
  };
  const auto sni = [](std::string name) {
    return [=](Acquire* r) { r->mutable_options()->set_sni(name); };
  };
  const auto group = [](std::string name) {
    return [=](Acquire* r) { r->mutable_options()->set_pool_group(name); };
  };
  const auto alpn = [](std::string name) {
    return [=](Acquire* r) { r->mutable_options()->set_alpn(name); };
  };
  const auto tls_profile = [](std::string target, std::string name) {
    return [=](Acquire* r) {
      r->set_target(target);
      r->mutable_options()->set_tls_profile(name);
    };
  };
  const auto ends = [](std::string remote, std::string source) {
    return [=](Acquire* r) {
      r->mutable_options()->set_remote_ip(remote);
      r->mutable_options()->set_source_ip(source);
    };
  };
  const std::string bad_remote = "BAD_OPTION options.remote_ip";
  const std::string bad_source = "BAD_OPTION options.source_ip";
  const std::string bad_ttl = "BAD_OPTION lease_ttl";
  const std::string bad_alpn = "BAD_OPTION options.alpn";
  const std::string bad_wait = "BAD_OPTION max_wait";
  const std::string bad_sni = "BAD_OPTION options.sni";
  const std::string bad_group = "BAD_OPTION options.pool_group";
  const Row<Acquire> rows[] = {
      {"nothing said", [](Acquire*) {}, ""},
      {"no target", [](Acquire* r) { r->clear_target(); }, "BAD_TARGET target"},
      {"bad target", [](Acquire* r) { r->set_target("x"); },
       "BAD_TARGET target"},
      {"mode shared", [](Acquire* r) { r->set_mode(v1::MODE_SHARED); }, ""},
      {"mode exclusive", [](Acquire* r) { r->set_mode(v1::MODE_EXCLUSIVE); },
       ""},
      {"mode 3", [](Acquire* r) { r->set_mode(static_cast<v1::Mode>(3)); },
       "BAD_OPTION mode"},
      {"mode -1", [](Acquire* r) { r->set_mode(static_cast<v1::Mode>(-1)); },
       "BAD_OPTION mode"},
      {"reuse force new", [](Acquire* r) { r->set_reuse(v1::REUSE_FORCE_NEW); },
       ""},
      {"reuse 4", [](Acquire* r) { r->set_reuse(static_cast<v1::Reuse>(4)); },
       "BAD_OPTION reuse"},
      {"remote ip", ends("192.0.2.1", ""), ""},
      {"source ip", ends("", "2001:db8::1"), ""},
      {"both ends", ends("192.0.2.1", "192.0.2.2"), ""},
      {"a name as remote ip", ends("a.example", ""), bad_remote},
      {"a port with remote ip", ends("192.0.2.1:80", ""), bad_remote},
      {"brackets around remote ip", ends("[::1]", ""), bad_remote},
      {"half a source ip", ends("", "192.0.2"), bad_source},
      {"two families", ends("192.0.2.1", "2001:db8::1"), bad_source},
      {"shortest ttl", ttl(0, 1), ""},
      {"long ttl is for the broker to cut", ttl(86400 * 365, 0), ""},
      {"ttl zero", ttl(0, 0), bad_ttl},
      {"ttl negative", ttl(-1, 0), bad_ttl},
      {"ttl negative by nanos", ttl(0, -1), bad_ttl},
      {"ttl of two signs", ttl(1, -1), bad_ttl},
      {"ttl of two signs, the other way", ttl(-1, 1), bad_ttl},
      {"ttl with too many nanos", ttl(1, 1'000'000'000), bad_ttl},
      {"ttl past 10 000 years", ttl(315'576'000'001, 0), bad_ttl},
      {"ttl at the ends of its type",
       ttl(std::numeric_limits<int64_t>::min(),
           std::numeric_limits<int32_t>::min()),
       bad_ttl},
      {"no wait", wait(0, 0), ""},
      {"a wait", wait(1, 500'000'000), ""},
      {"longest wait", wait(315'576'000'000, 999'999'999), ""},
      {"wait negative", wait(-1, 0), bad_wait},
      {"wait negative by nanos", wait(0, -1), bad_wait},
      {"wait of two signs", wait(5, -5), bad_wait},
      {"wait past 10 000 years", wait(315'576'000'001, 0), bad_wait},
      {"sni", sni("a.example"), ""},
      {"longest sni", sni(Name(253)), ""},
      {"sni too long", sni(Name(254)), bad_sni},
      {"sni is an address", sni("127.0.0.1"), bad_sni},
      {"sni is an IPv6 address", sni("::1"), bad_sni},
      {"sni with a dot at its end", sni("a.example."), bad_sni},
      {"sni with a port", sni("a.example:443"), bad_sni},
      {"sni with white space", sni("a example"), bad_sni},
      {"sni with NUL", sni(std::string("a\0b", 3)), bad_sni},
      {"sni without TLS",
       [](Acquire* r) {
         r->set_target("http://example.com");
         r->mutable_options()->set_sni("a.example");
       },
       bad_sni},
      {"group", group("Team-1_a.b"), ""},
      {"longest group", group(Label(64)), ""},
      {"group too long", group(Label(65)), bad_group},
      {"group with a space", group("a b"), bad_group},
      {"group with a slash", group("a/b"), bad_group},
      {"group above ASCII", group("\xc3\xa9"), bad_group},
      {"h2", alpn("h2"), ""},
      {"HTTP/1.1", alpn("http/1.1"), ""},
      {"HTTP/1.0", alpn("http/1.0"), bad_alpn},
      {"H2 in capitals", alpn("H2"), bad_alpn},
      {"both", alpn("h2,http/1.1"), bad_alpn},
      {"protocol with NUL", alpn(std::string("h2\0", 3)), bad_alpn},
      {"protocol without TLS",
       [](Acquire* r) {
         r->set_target("http://a.example");
         r->mutable_options()->set_alpn("http/1.1");
       },
       bad_alpn},
      {"TLS profile", tls_profile("https://a.example", "modern"), ""},
      {"TLS profile without TLS", tls_profile("http://a.example", "modern"),
       "BAD_OPTION options.tls_profile"},
      {"holder",
       [](Acquire* r) {
         r->mutable_holder()->set_client_id(Label(128));
         r->mutable_holder()->set_purpose(Label(128));
         r->mutable_holder()->set_trace(Label(128));
       },
       ""},
      {"client id too long",
       [](Acquire* r) { r->mutable_holder()->set_client_id(Label(129)); },
       "BAD_OPTION holder.client_id"},
      {"purpose too long",
       [](Acquire* r) { r->mutable_holder()->set_purpose(Label(129)); },
       "BAD_OPTION holder.purpose"},
      {"trace too long",
       [](Acquire* r) { r->mutable_holder()->set_trace(Label(129)); },
       "BAD_OPTION holder.trace"},
      {"request id", [](Acquire* r) { r->set_request_id(Label(64)); }, ""},
      {"request id too long", [](Acquire* r) { r->set_request_id(Label(65)); },
       "BAD_OPTION request_id"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    Acquire request;
    request.set_target("https://example.com");
    row.change(&request);
    ParsedTarget target;
    EXPECT_EQ(Text(ValidateAcquire(request, &target)), row.want);
  }
}

using Execute = v1::ExecuteRequest;

void CheckExecute(const std::vector<Row<Execute>>& rows) {
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    Execute request;
    request.set_url("https://example.com:8443/a");
    row.change(&request);
    ParsedUrl url;
    EXPECT_EQ(Text(ValidateExecute(request, kMaxBody, &url)), row.want);
  }
}

TEST(ValidateExecuteTest, FaultsAreNamedWithTheirField) {
  const auto method = [](std::string name) {
    return [=](Execute* r) { r->set_method(name); };
  };
  const auto attempts = [](int n) {
    return [=](Execute* r) { r->mutable_retry()->set_max_attempts(n); };
  };
  const auto most = [](int64_t n) {
    return [=](Execute* r) { r->set_max_response_bytes(n); };
  };
  const auto timeout = [](int64_t seconds, int32_t nanos) {
    return [=](Execute* r) { *r->mutable_timeout() = Length(seconds, nanos); };
  };
  const std::string bad_method = "BAD_METHOD method";
  CheckExecute({
      {"nothing said", [](Execute*) {}, ""},
      {"no url", [](Execute* r) { r->clear_url(); }, "BAD_URL url"},
      {"bad url", [](Execute* r) { r->set_url("/a"); }, "BAD_URL url"},
      {"GET", method("GET"), ""},
      {"a token of any kind", method("M-SEARCH!#$%&'*+.^_`|~09az"), ""},
      {"longest method", method(Label(64)), ""},
      {"method too long", method(Label(65)), bad_method},
      {"method with a space", method("GET "), bad_method},
      {"method with a line break", method("GET\r\n"), bad_method},
      {"method with NUL", method(std::string("G\0T", 3)), bad_method},
      {"method with a colon", method("A:B"), bad_method},
      {"method above ASCII", method("G\xc3\x89T"), bad_method},
      {"CONNECT", method("CONNECT"), bad_method},
      {"connect", method("connect"), bad_method},
      {"largest body", [](Execute* r) { r->set_body(Label(kMaxBody)); }, ""},
      {"body too large", [](Execute* r) { r->set_body(Label(kMaxBody + 1)); },
       "BODY_TOO_LARGE body"},
      {"shortest timeout", timeout(0, 1), ""},
      {"timeout zero", timeout(0, 0), "BAD_OPTION timeout"},
      {"timeout negative", timeout(-1, -1), "BAD_OPTION timeout"},
      {"timeout of two signs", timeout(1, -1), "BAD_OPTION timeout"},
      {"one attempt", attempts(1), ""},
      {"most attempts", attempts(10), ""},
      {"too many attempts", attempts(11), "BAD_OPTION retry.max_attempts"},
      {"negative attempts", attempts(-1), "BAD_OPTION retry.max_attempts"},
      {"largest answer", most(kMaxBody), ""},
      {"answer past the cap", most(kMaxBody + 1),
       "BAD_OPTION max_response_bytes"},
      {"negative answer", most(-1), "BAD_OPTION max_response_bytes"},
      {"sni",
       [](Execute* r) { r->mutable_options()->set_sni("other.example"); }, ""},
      {"bad sni", [](Execute* r) { r->mutable_options()->set_sni("[::1]"); },
       "BAD_OPTION options.sni"},
      {"sni without TLS",
       [](Execute* r) {
         r->set_url("http://example.com");
         r->mutable_options()->set_sni("other.example");
       },
       "BAD_OPTION options.sni"},
      {"options with a lease",
       [](Execute* r) {
         r->set_lease_id("x");
         r->mutable_options()->set_pool_group("a");
       },
       "BAD_OPTION options"},
      {"remote ip with a lease",
       [](Execute* r) {
         r->set_lease_id("x");
         r->mutable_options()->set_remote_ip("192.0.2.1");
       },
       "BAD_OPTION options"},
      {"source ip with a lease",
       [](Execute* r) {
         r->set_lease_id("x");
         r->mutable_options()->set_source_ip("192.0.2.1");
       },
       "BAD_OPTION options"},
      {"protocol with a lease",
       [](Execute* r) {
         r->set_lease_id("x");
         r->mutable_options()->set_alpn("h2");
       },
       "BAD_OPTION options"},
      {"TLS profile with a lease",
       [](Execute* r) {
         r->set_lease_id("x");
         r->mutable_options()->set_tls_profile("modern");
       },
       "BAD_OPTION options"},
      {"empty options with a lease",
       [](Execute* r) {
         r->set_lease_id("x");
         r->mutable_options();
       },
       ""},
  });
}

TEST(ValidateExecuteTest, FaultyHeadersAreNamedWithTheirPlace) {
  // The faulty header is the second of two.
  const auto header = [](std::string name, std::string value) {
    return [=](Execute* r) {
      r->add_headers()->set_name("accept");
      v1::Header* second = r->add_headers();
      second->set_name(name);
      second->set_value(value);
    };
  };
  const auto many = [](int n, size_t bytes) {
    return [=](Execute* r) {
      for (int i = 0; i < n; ++i) {
        v1::Header* header = r->add_headers();
        header->set_name("a");
        header->set_value(std::string(bytes - 1, 'v'));
      }
    };
  };
  const std::string name = "BAD_HEADER headers[1].name";
  const std::string value = "BAD_HEADER headers[1].value";
  CheckExecute({
      {"plain", header("X-A", "b"), ""},
      {"empty value", header("x-a", ""), ""},
      {"any token", header("!#$%&'*+-.^_`|~09Az", "b"), ""},
      {"bytes in a value", header("x-a", "a\tb \x80\xff"), ""},
      {"ESC in the value", header("x-a", "\x1b[2J"), value},
      {"SOH in the value", header("x-a", "\x01"), value},
      {"DEL in the value", header("x-a", "a\x7f"), value},
      {"vertical tab in the value", header("x-a", "a\vb"), value},
      {"empty name", header("", "b"), name},
      {"name with a space", header("x a", "b"), name},
      {"space after the name", header("x-a ", "b"), name},
      {"name with a colon", header("x:a", "b"), name},
      {"pseudo-header", header(":authority", "b"), name},
      {"name with a line break", header("x\r\ny", "b"), name},
      {"name with NUL", header(std::string("x\0", 2), "b"), name},
      {"name above ASCII", header("\xc3\xa9", "b"), name},
      {"CR in the value", header("x-a", "b\rc"), value},
      {"LF in the value", header("x-a", "b\nc"), value},
      {"smuggled header", header("x-a", "b\r\nHost: c"), value},
      {"line break at the value's end", header("x-a", "b\r\n"), value},
      {"NUL in the value", header("x-a", std::string("b\0", 2)), value},
      {"Connection", header("Connection", "close"), name},
      {"Keep-Alive", header("keep-alive", "5"), name},
      {"Proxy-Connection", header("PROXY-CONNECTION", "close"), name},
      {"TE", header("TE", "trailers"), name},
      {"Trailer", header("Trailer", "x"), name},
      {"Transfer-Encoding", header("transfer-Encoding", "chunked"), name},
      {"Upgrade", header("Upgrade", "h2c"), name},
      {"Content-Length", header("content-length", "0"), name},
      {"Expect", header("Expect", "100-continue"), name},
      {"names that only resemble those", header("connections", "x"), ""},
      {"Content-Type is the caller's", header("content-type", "x"), ""},
      {"Host as in the URL", header("HOST", "Example.com:8443"), ""},
      {"Host of somebody else", header("Host", "other.example"), value},
      {"Host without the port", header("Host", "example.com"), value},
      {"empty Host", header("Host", ""), value},
      {"Host with the scheme's own port, said",
       [](Execute* r) {
         r->set_url("https://example.com/");
         v1::Header* host = r->add_headers();
         host->set_name("host");
         host->set_value("example.com:443");
       },
       ""},
      {"128 headers", many(128, 10), ""},
      {"129 headers", many(129, 10), "BAD_HEADER headers"},
      {"64 KiB of headers", many(64, 1024), ""},
      {"a byte more", many(1, 65537), "BAD_HEADER headers"},
      {"more in many", many(65, 1024), "BAD_HEADER headers"},
  });
}

TEST(ValidateExecuteTest, ReturnsTheParsedUrl) {
  Execute request;
  request.set_url("HTTPS://Example.com:8443?x");
  ParsedUrl url;
  EXPECT_EQ(Text(ValidateExecute(request, kMaxBody, &url)), "");
  EXPECT_EQ(url.target.canonical, "https://example.com:8443");
  EXPECT_EQ(url.path, "/?x");
}

TEST(ValidateExecuteTest, MessagesDoNotRepeatWhatWasSent) {
  Execute request;
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
  using Stats = v1::StatsRequest;
  const auto size = [](int n) {
    return [=](Stats* r) { r->set_page_size(n); };
  };
  const auto view = [](int n) {
    return [=](Stats* r) { r->set_view(static_cast<v1::StatsView>(n)); };
  };
  const Row<Stats> rows[] = {
      {"nothing said", [](Stats*) {}, ""},
      {"leases", view(4), ""},
      {"view 5", view(5), "BAD_OPTION view"},
      {"one row", size(1), ""},
      {"1000 rows", size(1000), ""},
      {"1001 rows", size(1001), "BAD_OPTION page_size"},
      {"-1 rows", size(-1), "BAD_OPTION page_size"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    Stats request;
    row.change(&request);
    EXPECT_EQ(Text(ValidateStats(request)), row.want);
  }
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
      {"nothing", [](Release*) {}, ""},  // As a lease id, which is then bad.
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
       [&](Release* r) { acquire(r), r->set_request_id(Label(64)); }, ""},
      {"too long an id",
       [&](Release* r) { acquire(r), r->set_request_id(Label(65)); },
       "BAD_OPTION request_id"},
      {"too long a client",
       [&](Release* r) { acquire(r), r->set_client_id(Label(129)); },
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
