// `hotline get`: one HTTP request, with curl's conventions.
#include "client/cli/get.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "client/cli/exit_code.h"
#include "client/cli/upload.h"
#include "client/cli/write_out.h"

namespace hotline::client {
namespace {

// One URL's request: what is sent, and where the answer goes.
struct Exchange {
  const GetOptions& get;
  const v1::ExecuteRequest& request;
  bool append;  // To the output of the URLs before.
  BrokerClient& client;
  const Run& run;

  AnswerWriter Writer() const { return {get, request, append, run}; }
  int Fail(const absl::Status& status) const {
    return run.Fail(status, &request.headers());
  }
};

// Over Execute, whose answer fits in one message: for --max-bytes, and where
// the policy allows nothing else.
int RunWhole(const Exchange& exchange) {
  const auto answer =
      exchange.client.Execute(exchange.request, exchange.run.Call());
  if (!answer.ok()) return exchange.Fail(answer.status());
  AnswerWriter writer = exchange.Writer();
  if (!writer.OnHead(answer->status(), answer->headers()) ||
      !writer.OnBody(answer->body())) {
    return writer.Failure();
  }
  return writer.Finish(answer->receipt(), answer->truncated());
}

absl::StatusOr<std::unique_ptr<BodySource>> SourceOf(
    const GetOptions& get, const v1::ExecuteRequest& request, const Io& io) {
  if (get.upload.empty()) return BodySource::FromString(request.body());
  if (get.upload != "-") return BodySource::OpenFile(get.upload);
  return io.in_fd >= 0 ? BodySource::FromDescriptor(io.in_fd)
                       : BodySource::FromStream(&io.in);
}

// Nothing has been processed then.
bool RefusedByPolicy(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  return info.has_value() &&
         (info->reason == "NOT_AUTHORIZED" || info->reason == "NO_IDENTITY");
}

// Over ExecuteStream, for answers of any length, which are shown as they
// arrive. Nothing: the policy does not allow it, but may allow Execute.
std::optional<int> RunStreamed(const Exchange& exchange) {
  const auto& [get, request, append, client, run] = exchange;
  v1::ExecuteStreamHead head = HeadOf(request);
  auto source = SourceOf(get, request, run.io);
  if (!source.ok()) {
    return run.FailUsage(std::string(source.status().message()));
  }
  // Without a body no length is sent.
  const std::optional<uint64_t> length = (*source)->length();
  if (length && (*length > 0 || !get.upload.empty() || !get.data.empty())) {
    head.set_content_length(static_cast<int64_t>(*length));
  }
  ExecuteStream stream = client.OpenStream(head, run.Call());
  AnswerWriter writer = exchange.Writer();
  Upload upload(*std::move(source), &stream);
  const auto answer = stream.ReadHead();
  if (get.upload.empty() && RefusedByPolicy(answer.status())) {
    return std::nullopt;
  }
  bool wanted =
      answer.ok() && writer.OnHead(answer->status(), answer->headers());
  for (std::string piece; wanted && stream.ReadBody(&piece);) {
    wanted = writer.OnBody(piece);
  }
  if (answer.ok() && !wanted) {
    stream.Cancel();
    return writer.Failure();
  }
  const auto end = stream.Finish();
  if (!upload.fine()) {
    return run.FailUsage("cannot read " + get.upload + " to its end");
  }
  if (!end.ok()) return exchange.Fail(end.status());
  return writer.Finish(end->receipt(), /*truncated=*/false);
}

int RunOne(const Exchange& exchange) {
  if (exchange.get.verbose) ShowRequest(exchange.request, exchange.run);
  if (exchange.get.max_bytes > 0) return RunWhole(exchange);
  const std::optional<int> code = RunStreamed(exchange);
  return code.has_value() ? *code : RunWhole(exchange);
}

// Each URL in turn; the exit code is that of the first one that failed.
int RunGet(const GetOptions& get, const Run& run) {
  absl::Status fine = CheckWriteOut(get.write_out);
  if (get.urls.size() > 1 && !get.upload.empty()) {
    fine = absl::InvalidArgumentError("-T takes one URL");
  }
  auto request = MakeRequest(get, run.io.in);
  if (fine.ok()) fine = request.status();
  if (!fine.ok()) return run.FailUsage(std::string(fine.message()));
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  int code = kExitOk;
  bool append = false;
  for (const std::string& url : get.urls) {
    request->set_url(url);
    const int one = RunOne({get, *request, append, **client, run});
    append = true;
    if (code == kExitOk) code = one;
  }
  return code;
}

void AddRequestOptions(CLI::App& command, GetOptions& get) {
  command
      .add_option("url", get.urls,
                  "https://host[:port]/path, or http://; several are requested "
                  "in turn")
      ->required()
      ->type_name("URL");
  command
      .add_option("-X,--request", get.method,
                  "The method (default: GET, or POST with -d)")
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
                  "byte; several are joined with &")
      ->type_name("DATA")
      ->allow_extra_args(false);
  command
      .add_option("-T,--upload", get.upload,
                  "Send this file of any length, or - for standard input "
                  "(default method: PUT)")
      ->type_name("FILE")
      ->excludes("--data");
}

void AddConnectionOptions(CLI::App& command, GetOptions& get) {
  command
      .add_option("-l,--lease", get.lease_id,
                  "Run on this lease instead of any connection of the pool")
      ->type_name("LEASE_ID");
  command
      .add_option(
          "--sni", get.sni,
          "Server name sent and verified in TLS (default: the URL's host)")
      ->type_name("NAME");
  command
      .add_option(
          "--pool-group", get.pool_group,
          "Share connections only with callers that name the same group")
      ->type_name("NAME");
  command
      .add_option(
          "--alpn", get.alpn,
          "The only acceptable protocol: h2 or http/1.1 (default: either)")
      ->type_name("NAME");
  command
      .add_option(
          "--tls-profile", get.tls_profile,
          "The TLS profile (default: the one configured for the target)")
      ->type_name("NAME");
  command
      .add_option("--remote-ip", get.remote_ip,
                  "Connect to this address instead of resolving the host")
      ->type_name("ADDRESS");
  command
      .add_option("--source-ip", get.source_ip,
                  "Local address of the broker to connect from")
      ->type_name("ADDRESS");
}

void AddRetryOptions(CLI::App& command, GetOptions& get) {
  command
      .add_option("--max-attempts", get.max_attempts,
                  "Attempts including the first, 1 to 10 (default: 3)")
      ->type_name("N")
      ->check(CLI::Range(1, 10));
  command.add_flag("--idempotent", get.idempotent,
                   "The request may be processed twice without harm");
}

void AddAnswerOptions(CLI::App& command, GetOptions& get) {
  command
      .add_option("-o,--output", get.output,
                  "Write the answer to this file as it arrives, several one "
                  "after the other; - for standard output, unescaped even on a "
                  "terminal")
      ->type_name("FILE");
  command.add_flag("-i,--include", get.include_head,
                   "Show the answer's status and headers, with control "
                   "characters escaped, before its body");
  command.add_flag("-I,--head", get.head_only,
                   "Use HEAD and show the answer's status and headers");
  command.add_flag(
      "-f,--fail", get.fail,
      "No output and exit status 8 if the upstream's status is 400 or above");
  command
      .add_option("--max-bytes", get.max_bytes,
                  "Truncate the answer's body to this length, at most 3 MiB; "
                  "not with -T")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{kMaxBodyBytes}))
      ->excludes("--upload");
  command.add_flag("-r,--receipt", get.receipt,
                   "Report on standard error which connection was used and "
                   "where the time went");
  command.add_flag("-v,--verbose", get.verbose,
                   "Show on standard error the request, the answer's status "
                   "and headers, and the receipt");
  command
      .add_option("-w,--write-out", get.write_out,
                  "Print this after each answer; \\n, \\t and %{variable} are "
                  "replaced: " +
                      WriteOutVariables())
      ->type_name("FORMAT");
}

}  // namespace

void AddGet(CLI::App& app, Run& run) {
  auto get = std::make_shared<GetOptions>();
  CLI::App* command =
      app.add_subcommand("get", "Run one HTTP request over a hot connection");
  AddRequestOptions(*command, *get);
  AddConnectionOptions(*command, *get);
  AddRetryOptions(*command, *get);
  AddAnswerOptions(*command, *get);
  command->footer(Examples(
      "  hotline get https://api.example.com/v1/things\n"
      "  hotline get --receipt -o /dev/null https://api.example.com/\n"
      "  hotline get -d @order.json -H 'Content-Type: application/json' "
      "https://api.example.com/orders\n"
      "  hotline get -o image.iso https://files.example.com/image.iso\n"
      "  hotline get -T backup.tar https://files.example.com/backup.tar\n"
      "  hotline get --lease \"$LEASE\" https://api.example.com/v1/things\n"
      "  hotline get -o /dev/null -w '%{status} %{total} %{url}\\n' "
      "https://api.example.com/a https://api.example.com/b\n\n"
      "Without -T, where the policy does not allow ExecuteStream, the request "
      "is "
      "made with Execute, whose answers end at 3 MiB.\n"));
  command->final_callback(
      [get, &run] { run.action = [get, &run] { return RunGet(*get, run); }; });
}

}  // namespace hotline::client
