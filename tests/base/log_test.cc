#include "base/log.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace hotline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kTimeLength =
    std::string_view("2025-01-31T12:00:00.123Z").size();

// RFC 3339, UTC, with milliseconds.
bool IsTime(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:dd.dddZ";
  if (text.size() != kShape.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (kShape[i] == 'd' ? !digit : text[i] != kShape[i]) return false;
  }
  return true;
}

// Collects lines, and restores the logger.
class LogTest : public ::testing::Test {
 protected:
  LogTest() {
    SetLogSink(
        [this](LogLevel, std::string_view line) { lines_.emplace_back(line); });
  }
  ~LogTest() override {
    SetLogSink(nullptr);
    SetLogLevel(LogLevel::kInfo);
    SetLogFormat(LogFormat::kText);
  }

  // The last line, with "T" in place of the time.
  std::string Last() const {
    if (lines_.empty()) return "";
    std::string line = lines_.back();
    const size_t at = line.starts_with("{") ? strlen("{\"time\":\"") : 0;
    EXPECT_TRUE(IsTime(line.substr(at, kTimeLength))) << line;
    return line.replace(at, kTimeLength, "T");
  }

  std::vector<std::string> lines_;
};

TEST_F(LogTest, ALineHasTimeLevelMessageAndFields) {
  const std::string address = "127.0.0.1";
  HOTLINE_LOG(kInfo, "listening",
              {{"address", address}, {"port", 50051}, {"tls", false}});
  EXPECT_EQ(Last(), "T info listening address=127.0.0.1 port=50051 tls=false");
}

TEST_F(LogTest, EveryKindOfValueIsWritten) {
  const absl::Status status = absl::InternalError("boom");
  HOTLINE_LOG(kError, "values",
              {{"literal", "x"},
               {"absl", status.message()},
               {"null", static_cast<const char*>(nullptr)},
               {"negative", -3},
               {"big", uint64_t{18446744073709551615u}},
               {"share", 0.5},
               {"waited", milliseconds(1250)},
               {"long", seconds(60)},
               {"back", milliseconds(-5)}});
  EXPECT_EQ(Last(),
            "T error values literal=x absl=boom null=(null) negative=-3 "
            "big=18446744073709551615 share=0.5 waited=1.25s long=60s "
            "back=-0.005s");
}

TEST_F(LogTest, JsonLinesKeepNumbersAsNumbers) {
  SetLogFormat(LogFormat::kJson);
  HOTLINE_LOG(kWarning, "a \"b\"",
              {{"n", 1}, {"ok", true}, {"t", seconds(1)}, {"s", "x\\y"}});
  EXPECT_EQ(Last(),
            "{\"time\":\"T\",\"level\":\"warning\",\"message\":\"a \\\"b\\\"\","
            "\"n\":1,\"ok\":true,\"t\":\"1s\",\"s\":\"x\\\\y\"}");
}

TEST_F(LogTest, AValueFromOutsideCannotForgeALineOrAField) {
  HOTLINE_LOG(kInfo, "evil", {{"v", "x\n2025-01-01 error forged\r\t\x1b[2J"}});
  EXPECT_EQ(Last(),
            "T info evil v=\"x\\n2025-01-01 error "
            "forged\\r\\t\\u001b[2J\"");
  HOTLINE_LOG(kInfo, "evil", {{"v", "a b=c \"q\""}, {"w", ""}});
  EXPECT_EQ(Last(), "T info evil v=\"a b=c \\\"q\\\"\" w=\"\"");
}

TEST_F(LogTest, BytesThatAreNotTextAreEscaped) {
  const std::string bytes("a\0b\xff\xc2\x85\xed\xa0\x80", 9);
  HOTLINE_LOG(kInfo, "m", {{"v", bytes}});
  EXPECT_EQ(Last(), "T info m v=\"a\\u0000b\\xff\\u0085\\xed\\xa0\\x80\"");
  SetLogFormat(LogFormat::kJson);
  HOTLINE_LOG(kInfo, "m", {{"v", bytes}, {"nan", 0.0 / 0.0}});
  EXPECT_EQ(Last(),
            "{\"time\":\"T\",\"level\":\"info\",\"message\":\"m\",\"v\":"
            "\"a\\u0000b\\ufffd\\u0085\\ufffd\\ufffd\\ufffd\",\"nan\":null}");
}

TEST_F(LogTest, TextInAnyLanguagePassesButDirectionMarksDoNot) {
  HOTLINE_LOG(kInfo, "m", {{"v", "h\u00e9\u65e5 \U0001f525"}});
  EXPECT_EQ(Last(), "T info m v=\"h\u00e9\u65e5 \U0001f525\"");
  HOTLINE_LOG(kInfo, "m", {{"v", "a\u202eb\u2066\u2028"}});
  EXPECT_EQ(Last(), "T info m v=\"a\\u202eb\\u2066\\u2028\"");
}

TEST_F(LogTest, BelowTheLevelArgumentsAreNotEvaluated) {
  int evaluated = 0;
  const auto expensive = [&] { return ++evaluated; };
  HOTLINE_LOG(kDebug, "quiet", {{"n", expensive()}});
  EXPECT_EQ(evaluated, 0);
  EXPECT_TRUE(lines_.empty());
  SetLogLevel(LogLevel::kDebug);
  HOTLINE_LOG(kDebug, "loud", {{"n", expensive()}});
  EXPECT_EQ(Last(), "T debug loud n=1");
  SetLogLevel(LogLevel::kError);
  HOTLINE_LOG(kWarning, "quiet again");
  EXPECT_EQ(lines_.size(), 1u);
}

TEST_F(LogTest, ALongLineIsTruncatedAndStaysWellFormed) {
  const std::string value(5000, 'x');
  const std::string nasty(5000, '\x01');
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    SetLogFormat(format);
    HOTLINE_LOG(kInfo, "long", {{"a", value}, {"b", 1}});
    EXPECT_NE(Last().find("xxx...\""), std::string::npos);
    EXPECT_LT(Last().size(), 1200u);
    HOTLINE_LOG(kInfo, nasty,
                {{"a", nasty}, {"b", nasty}, {"c", nasty}, {"d", nasty}});
    EXPECT_LT(lines_.back().size(), kMaxLogLine);
  }
  EXPECT_TRUE(Last().ends_with("...\",\"truncated\":true}")) << Last();
}

TEST_F(LogTest, ALimiterLetsOneThroughPerIntervalAndCountsTheRest) {
  LogLimiter limiter(seconds(10));
  const Instant start = MonotonicNow();
  EXPECT_TRUE(limiter.Admit(start));
  EXPECT_FALSE(limiter.Admit(start + seconds(9)));
  EXPECT_FALSE(limiter.Admit(start + seconds(9)));
  EXPECT_EQ(limiter.TakeSuppressed(), 2u);
  EXPECT_TRUE(limiter.Admit(start + seconds(10)));
  EXPECT_EQ(limiter.TakeSuppressed(), 0u);

  LogLimiter other(seconds(1000));
  for (int i = 0; i < 3; ++i) {
    HOTLINE_LOG_LIMITED(other, kWarning, "again");
  }
  EXPECT_EQ(lines_.size(), 1u);
  EXPECT_EQ(other.TakeSuppressed(), 2u);
}

TEST_F(LogTest, NamesAreParsedExactly) {
  EXPECT_EQ(ParseLogLevel("debug"), LogLevel::kDebug);
  EXPECT_EQ(ParseLogLevel("error"), LogLevel::kError);
  EXPECT_EQ(ParseLogLevel("INFO"), std::nullopt);
  EXPECT_EQ(ParseLogFormat("json"), LogFormat::kJson);
  EXPECT_EQ(ParseLogFormat("xml"), std::nullopt);
}

// Redirects standard error into a pipe while it exists.
class CapturedStderr {
 public:
  CapturedStderr() : saved_(dup(STDERR_FILENO)) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    reader_ = ends[0];
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
  }
  // Restores standard error; returns everything written.
  std::string Take() {
    EXPECT_TRUE(FlushLog(seconds(60)));
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    std::string all;
    char buffer[65536];
    for (ssize_t n; (n = read(reader_, buffer, sizeof buffer)) > 0;) {
      all.append(buffer, n);
    }
    close(reader_);
    return all;
  }

 private:
  const int saved_;
  int reader_ = -1;
};

TEST_F(LogTest, LinesOfManyThreadsDoNotMix) {
  SetLogSink(nullptr);
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  CapturedStderr captured;
  std::string all;
  {
    // A pipe holds 64 KiB: 800 lines of 70 bytes fit without a reader.
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([t] {
        for (int i = 0; i < kEach; ++i) {
          HOTLINE_LOG(kInfo, "m", {{"thread", t}, {"i", i}, {"end", "!"}});
        }
      });
    }
    for (auto& thread : threads) thread.join();
    all = captured.Take();
  }
  std::set<std::string> seen;
  size_t at = 0;
  for (size_t end; (end = all.find('\n', at)) != std::string::npos;
       at = end + 1) {
    const std::string line = all.substr(at, end - at);
    constexpr std::string_view kBegin = " info m thread=";
    ASSERT_TRUE(IsTime(line.substr(0, kTimeLength))) << line;
    ASSERT_EQ(line.compare(kTimeLength, kBegin.size(), kBegin), 0) << line;
    ASSERT_TRUE(line.ends_with(" end=!")) << line;
    seen.insert(line.substr(kTimeLength));
  }
  EXPECT_EQ(at, all.size());
  EXPECT_EQ(seen.size(), size_t{kThreads * kEach});
}

// A process that crashes right after logging a line.
std::string StderrOfCrash(int signal) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    for (int other : {SIGABRT, SIGSEGV}) ::signal(other, SIG_DFL);
    FlushLogOnCrash();
    HOTLINE_LOG(kError, "last words");
    if (signal == SIGABRT) abort();
    raise(signal);
    _exit(0);
  }
  close(ends[1]);
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
    all.append(buffer, n);
  }
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), signal);
  return all;
}

// Runs before any test of this process logs to standard error: a child has only
// the thread that forked it.
const std::string g_abort = StderrOfCrash(SIGABRT);
const std::string g_fault = StderrOfCrash(SIGSEGV);

TEST_F(LogTest, ACrashLosesNoLine) {
  EXPECT_NE(g_abort.find(" error last words\n"), std::string::npos) << g_abort;
  EXPECT_NE(g_fault.find(" error last words\n"), std::string::npos) << g_fault;
}

TEST_F(LogTest, LinesOfALibraryComeInOurFormatOncePerSecondAndPlace) {
  SetLogFormat(LogFormat::kJson);
  for (int i = 0; i < 3; ++i) {
    WriteLibraryLog(LogLevel::kWarning, "lib", "a/b/wire.cc", 7, "bad \x1b\n");
  }
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(Last(),
            "{\"time\":\"T\",\"level\":\"warning\",\"message\":\"from a "
            "library\",\"library\":\"lib\",\"file\":\"wire.cc\",\"line\":7,"
            "\"text\":\"bad \\u001b\\n\",\"suppressed\":0}");
  WriteLibraryLog(LogLevel::kWarning, "lib", "a/b/wire.cc", 8, "other");
  EXPECT_EQ(lines_.size(), 2u);
  WriteLibraryLog(LogLevel::kDebug, "lib", "a/b/wire.cc", 9, "too quiet");
  EXPECT_EQ(lines_.size(), 2u);
}

}  // namespace
}  // namespace hotline
