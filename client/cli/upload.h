// The body of a request on its way: read here, sent there, in a thread of its
// own, so that the answer may come meanwhile.
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

// Where a body comes from. Not thread-safe.
class BodySource {
 public:
  virtual ~BodySource() = default;

  // NOT_FOUND when the file cannot be read. Of a plain file the length is
  // known. `stop`, where there is one, ends a Read that waits for bytes.
  static absl::StatusOr<std::unique_ptr<BodySource>> OpenFile(
      const std::string& path);
  // `fd` is left open.
  static std::unique_ptr<BodySource> FromDescriptor(int fd);
  static std::unique_ptr<BodySource> FromStream(std::istream* in);
  static std::unique_ptr<BodySource> FromString(std::string body);

  virtual std::optional<uint64_t> length() const { return std::nullopt; }
  // What comes next: how many bytes, 0 at the end, -1 on an error. Comes back
  // without any, as with an error, soon after `stop` is true.
  virtual int64_t Read(char* buffer, size_t size,
                       const std::atomic<bool>& stop) = 0;
};

// Sends all of `source` and ends the body. What cannot be read cancels the
// stream, so that half a body never looks like a whole one.
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
