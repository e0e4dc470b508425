// The parts of `hotline get`: its options, the request made from them, and the
// output of the answer.
#ifndef HOTLINE_CLIENT_CLI_GET_H_
#define HOTLINE_CLIENT_CLI_GET_H_

#include <cstdint>
#include <fstream>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "client/cli/progress.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

// The limit of -d, which is held in memory, and of --max-bytes.
inline constexpr size_t kMaxBodyBytes = 3 << 20;

struct GetOptions {
  std::vector<std::string> urls;
  std::string method;
  std::vector<std::string> headers;
  std::vector<std::string> data;
  std::string upload;  // A file, "-" for standard input; empty: none.
  std::string output;  // A file, "-" or empty for standard output.
  std::string lease_id;
  std::string sni;
  std::string pool_group;
  std::string alpn;
  std::string tls_profile;
  std::string remote_ip;
  std::string source_ip;
  std::string write_out;  // Empty: none.
  int64_t max_bytes = 0;
  int max_attempts = 0;
  bool include_head = false;
  bool head_only = false;
  bool receipt = false;
  bool verbose = false;
  bool idempotent = false;
  bool fail = false;
};

// The request, without its URL, and with the body of -d. Errors:
// INVALID_ARGUMENT.
absl::StatusOr<v1::ExecuteRequest> MakeRequest(const GetOptions& get,
                                               std::istream& in);

// The head of the same request, for a streamed body.
v1::ExecuteStreamHead HeadOf(const v1::ExecuteRequest& request);

// Shows a request on standard error, for -v.
void ShowRequest(const v1::ExecuteRequest& request, const Run& run);

// Writes an answer to its output, piece by piece.
class AnswerWriter {
 public:
  // `append`: to what an earlier answer left in the file.
  AnswerWriter(const GetOptions& get, const v1::ExecuteRequest& request,
               bool append, const Run& run);

  // False: the rest of the answer is not wanted; see Failure.
  bool OnHead(int status, const Headers& headers);
  bool OnBody(std::string_view piece);
  // The answer is complete. Returns the exit code.
  int Finish(const v1::Receipt& receipt, bool truncated);
  // The exit code after OnHead or OnBody returned false; else kExitOk.
  int Failure() const;

 private:
  bool to_stdout() const { return get_.output.empty() || get_.output == "-"; }
  std::ostream& out();
  // What is asked for beside the answer itself.
  void Report(const v1::Receipt& receipt);

  const GetOptions& get_;
  const v1::ExecuteRequest& request_;
  const bool append_;
  const Run& run_;
  Progress progress_;
  std::ofstream file_;
  int status_ = 0;
  uint64_t size_ = 0;
  const bool escaped_;  // The body is shown on a terminal.
  EscapedText shown_;
  bool refused_ = false;  // --fail.
  bool broken_ = false;   // The output cannot be written.
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_GET_H_
