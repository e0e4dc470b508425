#include "client/cli/command.h"

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/version.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/usage.h"

namespace hotline::client {
namespace {

constexpr char kDescription[] =
    "Talks to a Hotline broker, which keeps connections to upstream servers "
    "hot and lends them out.";

void Report(const Run& run, const std::string& text) {
  run.io.err << (run.io.color_err ? "\033[1;31mhotline:\033[0m " : "hotline: ")
             << text;
}

void AddGlobalOptions(CLI::App& app, Run& run) {
  app.add_option("-a,--address", run.address,
                 "The broker's address: host:port or unix:///path")
      ->envname("HOTLINE_ADDRESS")
      ->type_name("ADDRESS")
      ->capture_default_str();
  app.add_option("--admin-address", run.admin_address,
                 "The address of the broker's control plane, for the "
                 "operators' commands: host:port or unix:///path")
      ->envname("HOTLINE_ADMIN_ADDRESS")
      ->type_name("ADDRESS")
      ->capture_default_str();
  app.add_option("--tls-ca", run.tls.ca_file,
                 "Use TLS; file of the authorities to verify the broker's "
                 "certificate against (PEM)")
      ->envname("HOTLINE_TLS_CA")
      ->type_name("FILE");
  app.add_option("--tls-cert", run.tls.cert_file,
                 "Client certificate for mutual TLS (PEM)")
      ->envname("HOTLINE_TLS_CERT")
      ->type_name("FILE");
  app.add_option("--tls-key", run.tls.key_file,
                 "Private key of the client certificate (PEM)")
      ->envname("HOTLINE_TLS_KEY")
      ->type_name("FILE");
  app.add_option("-m,--max-time", run.max_time,
                 "Time limit for the whole command: 1.5 (seconds), 200ms, 2m "
                 "(default: 30s)")
      ->type_name("TIME")
      ->check(IsDuration());
  app.set_version_flag(
      "--version",
      absl::StrCat("hotline ", kVersion, std::string(run.io.build)),
      "Show the version and exit");
  app.set_help_flag("-h,--help", "Show this help and exit");
  app.footer(absl::StrCat(
      "The options above may also follow the command. `hotline help COMMAND` "
      "shows the command's own options and examples.\n\nOutput on a terminal "
      "is coloured unless NO_COLOR is set.\n\nExit status:\n",
      kExitCodesHelp));
}

// Returns the fault of an option that is not UTF-8 and so cannot be sent as
// text: the broker's error would be less clear. Paths and bodies may contain
// any bytes.
std::string NotUtf8(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (type == "FILE" || type == "DATA" || type == "HEADER") continue;
    for (const std::string& value : option->results()) {
      if (!IsUtf8(value)) return option->get_name() + " is not UTF-8";
    }
  }
  for (const CLI::App* command : app.get_subcommands()) {
    if (std::string fault = NotUtf8(*command); !fault.empty()) return fault;
  }
  return "";
}

}  // namespace

BrokerClientOptions Run::ClientOptions() const {
  BrokerClientOptions options;
  options.address = address;
  if (!tls.ca_file.empty() || !tls.cert_file.empty() || !tls.key_file.empty()) {
    options.tls = tls;
  }
  return options;
}

absl::StatusOr<std::unique_ptr<BrokerClient>> Run::Connect() const {
  return BrokerClient::Create(ClientOptions());
}

CallOptions Run::Call() const {
  CallOptions options;
  if (!max_time.empty()) options.timeout = ParseDuration(max_time);
  return options;
}

int Run::Fail(const absl::Status& status, const Headers* headers) const {
  Report(*this, FormatError(status, address, headers));
  return ExitCodeFor(status);
}

int Run::FailUsage(const std::string& message) const {
  // The message may quote arguments.
  std::string shown;
  AppendEscaped(&shown, message + "\n", Escape::kLines);
  Report(*this, shown);
  return kExitUsage;
}

CLI::Validator IsDuration() {
  CLI::Validator validator(
      [](std::string& text) {
        return ParseDuration(text).has_value()
                   ? std::string()
                   : "not a time such as 1.5, 200ms or 2m: " + text;
      },
      "");
  return validator;
}

bool ParseHeader(const std::string& text, v1::Header* header) {
  const size_t end = text.find(':');
  if (end == std::string::npos) {
    if (text.size() < 2 || text.back() != ';' || !IsUtf8(text)) return false;
    header->set_name(text.substr(0, text.size() - 1));
    return true;
  }
  if (end == 0 || !IsUtf8(text.substr(0, end))) return false;
  header->set_name(text.substr(0, end));
  header->set_value(
      std::string(absl::StripAsciiWhitespace(text.substr(end + 1))));
  return true;
}

namespace {

// Lists the options that another excludes by name: CLI11 lists them by address,
// in another order each time.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text = CLI::Formatter::make_option_opts(option);
    std::set<std::string> names;
    for (const CLI::Option* excluded : option->get_excludes()) {
      names.insert(excluded->get_name());
    }
    if (names.size() < 2) return text;
    const std::string label = get_label("Excludes") + ":";
    text.erase(text.rfind(label));
    return absl::StrCat(text, label, " ", absl::StrJoin(names, " "));
  }
};

}  // namespace

std::string Examples(const std::string& lines) { return "Examples:\n" + lines; }

int RunCommandLine(int argc, const char* const* argv, Io io) {
  Run run{.io = io};
  CLI::App app(kDescription, "hotline");
  app.formatter(std::make_shared<HelpFormatter>());
  app.get_formatter()->column_width(32);
  app.require_subcommand(1);
  // The global options may follow the subcommand.
  app.fallthrough();
  AddGlobalOptions(app, run);
  AddGet(app, run);
  AddLeases(app, run);
  AddExec(app, run);
  AddTunnel(app, run);
  AddForward(app, run);
  AddStats(app, run);
  AddTop(app, run);
  AddHealth(app, run);
  AddExplain(app, run);
  AddEvents(app, run);
  AddAdmin(app, run);
  AddBench(app, run);
  AddDocumentation(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {
    // --help, --version.
    app.exit(wanted, io.out, io.err);
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    return run.FailUsage(ExplainUsage(app, error.what()));
  }
  if (const std::string fault = NotUtf8(app); !fault.empty()) {
    return run.FailUsage(fault);
  }
  const int code = run.action();
  io.out.flush();
  if (!io.out.good() && code == kExitOk) {
    run.io.err << "hotline: cannot write the output\n";
    return kExitFailed;
  }
  return code;
}

}  // namespace hotline::client
