// `hotline get`: one HTTP request, with curl's manners.
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"

namespace hotline::client {
namespace {

// The broker takes no more; reading further would be in vain.
constexpr size_t kMaxBodyBytes = 3 << 20;

struct GetOptions {
  std::string url;
  std::string method;
  std::vector<std::string> headers;
  std::vector<std::string> data;
  std::string output = "-";
  std::string lease_id;
  std::string sni;
  std::string pool_group;
  std::string alpn;
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

// At most kMaxBodyBytes and one, which the broker will refuse.
std::string ReadLimited(std::istream& in) {
  std::string bytes(kMaxBodyBytes + 1, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<size_t>(in.gcount()));
  return bytes;
}

// One -d: itself, @FILE's bytes as they are, or @- for standard input.
std::optional<std::string> ReadData(const std::string& data, std::istream& in) {
  if (data.empty() || data[0] != '@') return data;
  if (data == "@-") return ReadLimited(in);
  std::ifstream file(data.substr(1), std::ios::binary);
  if (!file) return std::nullopt;
  std::string bytes = ReadLimited(file);
  if (file.bad()) return std::nullopt;
  return bytes;
}

bool HasHeader(const v1::ExecuteRequest& request, absl::string_view name) {
  for (const v1::Header& header : request.headers()) {
    if (absl::EqualsIgnoreCase(header.name(), name)) return true;
  }
  return false;
}

std::string MethodOf(const GetOptions& get) {
  if (!get.method.empty()) return get.method;
  if (get.head_only) return "HEAD";
  return get.data.empty() ? "GET" : "POST";
}

// Several -d are joined with "&", and sent as a form unless a header says
// otherwise, as curl does.
absl::Status FillBody(const GetOptions& get, std::istream& in,
                      v1::ExecuteRequest* request) {
  for (size_t i = 0; i < get.data.size(); ++i) {
    const std::optional<std::string> data = ReadData(get.data[i], in);
    if (!data.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot read ", get.data[i].substr(1)));
    }
    if (i > 0) request->mutable_body()->push_back('&');
    request->mutable_body()->append(*data);
  }
  if (!get.data.empty() && !HasHeader(*request, "content-type")) {
    v1::Header* type = request->add_headers();
    type->set_name("Content-Type");
    type->set_value("application/x-www-form-urlencoded");
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::ExecuteRequest> MakeRequest(const GetOptions& get,
                                               std::istream& in) {
  v1::ExecuteRequest request;
  request.set_url(get.url);
  request.set_method(MethodOf(get));
  request.set_lease_id(get.lease_id);
  request.set_max_response_bytes(get.max_bytes);
  for (const std::string& text : get.headers) {
    if (!ParseHeader(text, request.add_headers())) {
      return absl::InvalidArgumentError(
          absl::StrCat("-H wants 'Name: value', not '", text, "'"));
    }
  }
  if (get.max_attempts > 0) {
    request.mutable_retry()->set_max_attempts(get.max_attempts);
  }
  if (get.idempotent) request.mutable_retry()->set_idempotent(true);
  if (!get.sni.empty()) request.mutable_options()->set_sni(get.sni);
  if (!get.pool_group.empty()) {
    request.mutable_options()->set_pool_group(get.pool_group);
  }
  if (!get.alpn.empty()) request.mutable_options()->set_alpn(get.alpn);
  if (!get.remote_ip.empty()) {
    request.mutable_options()->set_remote_ip(get.remote_ip);
  }
  if (!get.source_ip.empty()) {
    request.mutable_options()->set_source_ip(get.source_ip);
  }
  const absl::Status status = FillBody(get, in, &request);
  if (!status.ok()) return status;
  return request;
}

void WriteAnswer(const GetOptions& get, const v1::ExecuteResponse& answer,
                 std::ostream& out) {
  if (get.include_head || get.head_only) {
    out << "HTTP/1.1 " << answer.status() << "\r\n";
    for (const v1::Header& header : answer.headers()) {
      out << header.name() << ": " << header.value() << "\r\n";
    }
    out << "\r\n";
  }
  out << answer.body();
}

// Returns the exit code.
int Deliver(const GetOptions& get, const v1::ExecuteResponse& answer,
            const Run& run) {
  const bool refused = get.fail && answer.status() >= 400;
  if (refused) {
    run.io.err << "hotline: the upstream answered " << answer.status() << "\n";
  } else if (get.output == "-") {
    WriteAnswer(get, answer, run.io.out);
  } else {
    std::ofstream file(get.output, std::ios::binary | std::ios::trunc);
    WriteAnswer(get, answer, file);
    file.close();
    if (!file) {
      run.io.err << "hotline: cannot write " << get.output << "\n";
      return kExitFailed;
    }
  }
  if (answer.truncated()) {
    run.io.err << "hotline: the body was cut at " << answer.body().size()
               << " bytes\n";
  }
  if (get.receipt) {
    run.io.out.flush();
    run.io.err << "status     " << answer.status() << ", "
               << answer.body().size() << " bytes\n"
               << FormatReceipt(answer.receipt());
  }
  return refused ? kExitHttpError : kExitOk;
}

int RunGet(const GetOptions& get, const Run& run) {
  const absl::StatusOr<v1::ExecuteRequest> request =
      MakeRequest(get, run.io.in);
  if (!request.ok()) {
    return run.FailUsage(std::string(request.status().message()));
  }
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto answer = (*client)->Execute(*request, run.Call());
  if (!answer.ok()) return run.Fail(answer.status());
  return Deliver(get, *answer, run);
}

void AddRequestOptions(CLI::App& command, GetOptions& get) {
  command.add_option("url", get.url, "https://host[:port]/path, or http")
      ->required()
      ->type_name("URL");
  command
      .add_option("-X,--request", get.method,
                  "The method; GET, or POST with -d, unless given")
      ->type_name("METHOD");
  command
      .add_option("-H,--header", get.headers,
                  "A request header, 'Name: value'; may be repeated")
      ->type_name("HEADER")
      ->allow_extra_args(false)
      ->trigger_on_parse(false);
  command
      .add_option("-d,--data", get.data,
                  "The body, or @FILE, or @- for standard input, byte for "
                  "byte; repeated, it is joined with &")
      ->type_name("DATA")
      ->allow_extra_args(false);
  command
      .add_option("-l,--lease", get.lease_id,
                  "Run on this lease instead of any connection")
      ->type_name("LEASE_ID");
  command
      .add_option("--sni", get.sni,
                  "Server name sent and verified in TLS, if not the URL's host")
      ->type_name("NAME");
  command
      .add_option("--pool-group", get.pool_group,
                  "Share connections only with callers that name it too")
      ->type_name("NAME");
  command
      .add_option("--alpn", get.alpn,
                  "The protocol that alone will do: h2 or http/1.1; either "
                  "unless given")
      ->type_name("NAME");
  command
      .add_option("--remote-ip", get.remote_ip,
                  "Connect to this address instead of what DNS says")
      ->type_name("ADDRESS");
  command
      .add_option("--source-ip", get.source_ip,
                  "The broker's local address to connect from")
      ->type_name("ADDRESS");
  command
      .add_option("--max-attempts", get.max_attempts,
                  "Attempts in all, 1 to 10; 3 unless given")
      ->type_name("N")
      ->check(CLI::Range(1, 10));
  command.add_flag("--idempotent", get.idempotent,
                   "The request may be processed twice without harm");
}

void AddAnswerOptions(CLI::App& command, GetOptions& get) {
  command
      .add_option("-o,--output", get.output,
                  "Write the answer to this file instead of standard output")
      ->type_name("FILE");
  command.add_flag("-i,--include", get.include_head,
                   "Show the answer's status and headers before its body");
  command.add_flag("-I,--head", get.head_only,
                   "Ask with HEAD and show the answer's head");
  command.add_flag("-f,--fail", get.fail,
                   "No output and exit status 8 when the upstream answers 400 "
                   "or above");
  command
      .add_option("--max-bytes", get.max_bytes,
                  "Cut the answer's body here; without it a body over 3 MiB "
                  "is an error")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{kMaxBodyBytes}));
  command.add_flag("-r,--receipt", get.receipt,
                   "Tell on standard error which connection served and where "
                   "the time went");
}

}  // namespace

void AddGet(CLI::App& app, Run& run) {
  auto get = std::make_shared<GetOptions>();
  CLI::App* command =
      app.add_subcommand("get", "Run one HTTP request over a hot connection");
  AddRequestOptions(*command, *get);
  AddAnswerOptions(*command, *get);
  command->footer(Examples(
      "  hotline get https://api.example.com/v1/things\n"
      "  hotline get --receipt -o /dev/null https://api.example.com/\n"
      "  hotline get -d @order.json -H 'Content-Type: application/json' "
      "https://api.example.com/orders\n"
      "  hotline get --lease \"$LEASE\" https://api.example.com/v1/things\n"));
  command->final_callback(
      [get, &run] { run.action = [get, &run] { return RunGet(*get, run); }; });
}

}  // namespace hotline::client
