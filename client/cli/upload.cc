#include "client/cli/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace hotline::client {
namespace {

constexpr size_t kPiece = 256 << 10;
// How often a Read that waits for bytes checks `stop`.
constexpr int kPollMs = 100;

class DescriptorSource final : public BodySource {
 public:
  DescriptorSource(int fd, bool owned) : fd_(fd), owned_(owned) {
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
      const off_t at = std::max<off_t>(lseek(fd, 0, SEEK_CUR), 0);
      length_ = static_cast<uint64_t>(std::max<off_t>(info.st_size - at, 0));
    }
  }
  ~DescriptorSource() override {
    if (owned_) close(fd_);
  }

  std::optional<uint64_t> length() const override { return length_; }

  int64_t Read(char* buffer, size_t size,
               const std::atomic<bool>& stop) override {
    while (!stop) {
      pollfd wanted = {.fd = fd_, .events = POLLIN, .revents = 0};
      const int ready = poll(&wanted, 1, kPollMs);
      if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
      const ssize_t got = read(fd_, buffer, size);
      if (got >= 0 || (errno != EINTR && errno != EAGAIN)) return got;
    }
    return -1;
  }

 private:
  const int fd_;
  const bool owned_;
  std::optional<uint64_t> length_;
};

class StreamSource final : public BodySource {
 public:
  explicit StreamSource(std::istream* in) : in_(in) {}
  int64_t Read(char* buffer, size_t size, const std::atomic<bool>&) override {
    in_->read(buffer, static_cast<std::streamsize>(size));
    return in_->bad() ? -1 : in_->gcount();
  }

 private:
  std::istream* const in_;
};

class StringSource final : public BodySource {
 public:
  explicit StringSource(std::string body) : body_(std::move(body)) {}
  std::optional<uint64_t> length() const override { return body_.size(); }
  int64_t Read(char* buffer, size_t size, const std::atomic<bool>&) override {
    const size_t part = std::min(size, body_.size() - used_);
    std::memcpy(buffer, body_.data() + used_, part);
    used_ += part;
    return static_cast<int64_t>(part);
  }

 private:
  const std::string body_;
  size_t used_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BodySource>> BodySource::OpenFile(
    const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info;
  if (fd >= 0 && fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode)) {
    return std::make_unique<DescriptorSource>(fd, /*owned=*/true);
  }
  const char* const why = std::strerror(fd < 0 ? errno : EISDIR);
  if (fd >= 0) close(fd);
  return absl::NotFoundError(absl::StrCat("cannot read ", path, ": ", why));
}

std::unique_ptr<BodySource> BodySource::FromDescriptor(int fd) {
  return std::make_unique<DescriptorSource>(fd, /*owned=*/false);
}

std::unique_ptr<BodySource> BodySource::FromStream(std::istream* in) {
  return std::make_unique<StreamSource>(in);
}

std::unique_ptr<BodySource> BodySource::FromString(std::string body) {
  return std::make_unique<StringSource>(std::move(body));
}

Upload::Upload(std::unique_ptr<BodySource> source, ExecuteStream* stream)
    : source_(std::move(source)), stream_(stream), thread_([this] { Run(); }) {}

Upload::~Upload() {
  stop_ = true;
  thread_.join();
}

void Upload::Run() {
  std::vector<char> buffer(kPiece);
  for (;;) {
    const int64_t size = source_->Read(buffer.data(), buffer.size(), stop_);
    if (size == 0) break;
    if (size < 0) {
      fine_ = stop_.load();
      return stream_->Cancel();
    }
    if (!stream_->Send({buffer.data(), static_cast<size_t>(size)})) return;
  }
  stream_->EndBody();
}

}  // namespace hotline::client
