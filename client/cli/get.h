// `hotline get` in parts: what was asked for, the request made of it, and where
// the answer goes.
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

// Of -d, which is held in memory, and of a body that is cut by --max-bytes.
inline constexpr size_t kMaxBodyBytes = 3 << 20;

struct GetOptions {
  std::string url;
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
  int64_t max_bytes = 0;
  int max_attempts = 0;
  bool include_head = false;
  bool head_only = false;
  bool receipt = false;
  bool idempotent = false;
  bool fail = false;
};

// The request, with the body of -d; INVALID_ARGUMENT for what cannot be one.
absl::StatusOr<v1::ExecuteRequest> MakeRequest(const GetOptions& get,
                                               std::istream& in);

// The head of the same request, for bodies in pieces.
v1::ExecuteStreamHead HeadOf(const v1::ExecuteRequest& request);

// Takes an answer piece by piece to where it belongs: head, body, the rest.
class AnswerWriter {
 public:
  AnswerWriter(const GetOptions& get, const Run& run);

  // False: what comes next is of no use any more.
  bool OnHead(int status,
              const google::protobuf::RepeatedPtrField<v1::Header>& headers);
  bool OnBody(std::string_view piece);
  // It is all there. Returns the exit code.
  int Finish(const v1::Receipt& receipt, bool truncated);
  // What was told to be false here, as an exit code; kExitOk: nothing was.
  int Failure() const;

 private:
  bool to_stdout() const { return get_.output.empty() || get_.output == "-"; }
  std::ostream& out();
  // The next piece of the body, on a terminal; `last`: nothing follows.
  void Show(std::string_view piece, bool last);

  const GetOptions& get_;
  const Run& run_;
  Progress progress_;
  std::ofstream file_;
  int status_ = 0;
  uint64_t size_ = 0;
  const bool escaped_;    // The body: it is shown to a person.
  std::string unshown_;   // The end of it that depends on what follows.
  bool refused_ = false;  // --fail.
  bool broken_ = false;   // It cannot be written.
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_GET_H_
