// Sends the body of a request from a thread of its own, so that the answer may
// arrive meanwhile.
#ifndef HOTLINE_CLIENT_CLI_UPLOAD_H_
#define HOTLINE_CLIENT_CLI_UPLOAD_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "client/execute_stream.h"

namespace hotline::client {

// The source of a body. Not thread-safe.
class BodySource {
 public:
  virtual ~BodySource() = default;

  // Errors: NOT_FOUND if the file cannot be read. The length is known only for
  // a regular file.
  static absl::StatusOr<std::unique_ptr<BodySource>> OpenFile(
      const std::string& path);
  // Does not close `fd`.
  static std::unique_ptr<BodySource> FromDescriptor(int fd);
  static std::unique_ptr<BodySource> FromStream(std::istream* in);
  static std::unique_ptr<BodySource> FromString(std::string body);

  virtual std::optional<uint64_t> length() const { return std::nullopt; }
  // Reads the next bytes. Returns their number, 0 at the end, -1 on an error
  // and soon after `stop` has become true.
  virtual int64_t Read(char* buffer, size_t size,
                       const std::atomic<bool>& stop) = 0;
};

// Sends all of `source` and ends the body. A read error cancels the stream, so
// that a partial body never looks complete.
class Upload {
 public:
  Upload(std::unique_ptr<BodySource> source, ExecuteStream* stream);
  // Stops reading, and waits for the thread.
  ~Upload();

  // False: the source could not be read to its end.
  bool fine() const { return fine_; }

 private:
  void Run();

  const std::unique_ptr<BodySource> source_;
  ExecuteStream* const stream_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> fine_{true};
  std::thread thread_;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_UPLOAD_H_
