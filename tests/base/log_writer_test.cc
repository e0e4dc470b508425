#include "base/log_writer.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace hotline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string DroppedLine(uint64_t count) {
  return "dropped " + std::to_string(count) + "\n";
}

// A pipe with the capacity of one page, and a writer to it with a small buffer.
class LogWriterTest : public ::testing::Test {
 protected:
  static constexpr size_t kRoom = 10'000;

  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    ASSERT_EQ(pipe(ends_), 0);
    fcntl(ends_[1], F_SETPIPE_SZ, 4096);
    writer_.emplace(LogWriter::Options{.fd = ends_[1],
                                       .max_queued_bytes = kRoom,
                                       .dropped_line = DroppedLine});
  }
  void TearDown() override {
    if (ends_[0] >= 0) close(ends_[0]);
    writer_.reset();
    close(ends_[1]);
  }

  static std::string Line(int i) {
    return std::to_string(i) + std::string(90, '.') + "\n";
  }

  // Reads lines until `more` returns false.
  template <typename More>
  void ReadWhile(More more) {
    char buffer[4096];
    while (more()) {
      const ssize_t size = read(ends_[0], buffer, sizeof buffer);
      ASSERT_GT(size, 0);
      all_.append(buffer, size);
    }
  }

  int ends_[2] = {-1, -1};
  std::optional<LogWriter> writer_;
  std::string all_;
};

TEST_F(LogWriterTest, AStalledReaderDelaysNoThreadAndSeesTheNumberOfLostLines) {
  constexpr uint64_t kLines = 1000;  // 92 KB: the pipe and the queue hold 24.
  for (uint64_t i = 0; i < kLines; ++i) writer_->Add(Line(i));
  EXPECT_GT(writer_->dropped(), 0u);
  EXPECT_FALSE(writer_->Flush(milliseconds(20)));

  std::thread reader([this] {
    ReadWhile([this] { return !all_.ends_with("afterwards\n"); });
  });
  ASSERT_TRUE(writer_->Flush(seconds(60)));
  writer_->Add("afterwards\n");
  reader.join();

  // Lines are whole and in order; with the reported losses none is missing.
  uint64_t seen = 0, reported = 0;
  int last = -1;
  std::istringstream lines(all_);
  for (std::string line; std::getline(lines, line);) {
    if (line == "afterwards") continue;
    if (line.starts_with("dropped ")) {
      reported += std::stoull(line.substr(8));
      continue;
    }
    const int number = std::stoi(line);
    EXPECT_EQ(line + "\n", Line(number));
    EXPECT_GT(number, last);
    last = number;
    ++seen;
  }
  EXPECT_EQ(reported, writer_->dropped());
  EXPECT_EQ(seen + reported, kLines);
}

TEST_F(LogWriterTest, ANonBlockingDescriptorLosesNothing) {
  fcntl(ends_[1], F_SETFL, O_NONBLOCK);
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    writer_->Add(Line(i));
    expected += Line(i);
  }
  ReadWhile([&] { return all_.size() < expected.size(); });
  EXPECT_EQ(all_, expected);
  EXPECT_EQ(writer_->dropped(), 0u);
}

TEST_F(LogWriterTest, AFailedDescriptorLosesLinesOnly) {
  close(std::exchange(ends_[0], -1));
  for (int i = 0; i < 5; ++i) {
    writer_->Add(Line(i));
    ASSERT_TRUE(writer_->Flush(seconds(60)));
  }
  EXPECT_EQ(writer_->dropped(), 5u);
}

TEST_F(LogWriterTest, EveryThreadsLinesKeepTheirOrder) {
  constexpr int kEach = 300;
  std::vector<std::thread> threads;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t n; (n = read(ends_[0], buffer, sizeof buffer)) > 0;) {
      all_.append(buffer, n);
      if (all_.find("the end\n") != std::string::npos) return;
    }
  });
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < kEach; ++i) {
        writer_->Add(std::to_string(t) + " " + std::to_string(1000 + i) + "\n");
        writer_->Flush(seconds(60));  // Drops none, so that all are seen.
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  writer_->Add("the end\n");
  reader.join();
  EXPECT_EQ(writer_->dropped(), 0u);
  for (int t = 0; t < 3; ++t) {
    size_t at = 0;
    for (int i = 0; i < kEach; ++i) {
      at = all_.find(std::to_string(t) + " " + std::to_string(1000 + i), at);
      ASSERT_NE(at, std::string::npos) << t << " " << i;
    }
  }
}

}  // namespace
}  // namespace hotline
