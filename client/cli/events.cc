// `hotline events`: what happened in the broker, and what happens.
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "base/text.h"
#include "client/cli/admin.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "google/protobuf/util/json_util.h"

namespace hotline::client {
namespace {

constexpr std::string_view kPrefix = "EVENT_KIND_";

struct EventsOptions {
  bool follow = false;
  std::string target;
  std::vector<std::string> kinds;
  std::optional<uint64_t> since;
  std::string output = "text";
};

// "dial_failed".
std::string NameOf(v1::EventKind kind) {
  std::string name = v1::EventKind_Name(kind);
  if (name.empty()) return absl::StrCat("kind_", static_cast<int>(kind));
  return absl::AsciiStrToLower(name.substr(kPrefix.size()));
}

std::vector<std::string> KindNames() {
  std::vector<std::string> names;
  for (int i = v1::EventKind_MIN + 1; i <= v1::EventKind_MAX; ++i) {
    if (v1::EventKind_IsValid(i)) {
      names.push_back(NameOf(static_cast<v1::EventKind>(i)));
    }
  }
  return names;
}

v1::WatchEventsRequest RequestOf(const EventsOptions& options) {
  v1::WatchEventsRequest request;
  request.set_target(options.target);
  for (const std::string& name : options.kinds) {
    v1::EventKind kind;
    const std::string full =
        absl::StrCat(std::string(kPrefix), absl::AsciiStrToUpper(name));
    if (v1::EventKind_Parse(full, &kind)) request.add_kinds(kind);
  }
  // Everything that is kept, also before the new ones.
  request.set_after(options.since.value_or(0));
  request.set_kept_only(!options.follow);
  return request;
}

// What is known of an event beside time, number, kind and target.
std::vector<std::string> DetailsOf(const v1::Event& event) {
  std::vector<std::string> details;
  if (!event.reason().empty()) details.push_back(event.reason());
  if (event.connection_id() != 0) {
    details.push_back(absl::StrCat("connection ", event.connection_id()));
  }
  if (!event.address().empty()) details.push_back(event.address());
  if (!event.text().empty()) details.push_back(event.text());
  if (event.kind() == v1::EVENT_KIND_OPERATOR) {
    details.push_back("by " + (event.identity().empty() ? "a local caller"
                                                        : event.identity()));
  }
  if (event.has_holder()) {
    details.push_back("client_id " + event.holder().client_id());
  }
  if (event.suppressed() > 0) {
    details.push_back(absl::StrCat(event.suppressed(), " more before it"));
  }
  return details;
}

std::string LineOf(const v1::Event& event) {
  const absl::Time time = absl::FromUnixSeconds(event.time().seconds()) +
                          absl::Nanoseconds(event.time().nanos());
  std::string line = absl::StrCat(
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()), " #",
      event.sequence(), " ", NameOf(event.kind()));
  if (!event.target().empty()) absl::StrAppend(&line, " ", event.target());
  const std::string details = absl::StrJoin(DetailsOf(event), ", ");
  if (!details.empty()) absl::StrAppend(&line, ": ", details);
  return Printable(line) + "\n";
}

std::string LineOf(const v1::EventGap& gap) {
  if (gap.first() == 0) {
    return "events are missing: the broker was restarted\n";
  }
  return absl::StrCat("events are missing: #", gap.first(), " to #", gap.last(),
                      "\n");
}

// One object on one line.
std::string JsonOf(const v1::WatchEventsResponse& response) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto written =
      google::protobuf::util::MessageToJsonString(response, &text, options);
  if (!written.ok()) return "{}\n";
  std::string shown;
  AppendEscaped(&shown, text, Escape::kLine);
  return shown + "\n";
}

void Print(const v1::WatchEventsResponse& response, const std::string& output,
           const Run& run) {
  if (output == "json") {
    run.io.out << JsonOf(response);
  } else {
    if (response.has_gap()) run.io.out << LineOf(response.gap());
    for (const v1::Event& event : response.events()) {
      run.io.out << LineOf(event);
    }
  }
  run.io.out.flush();
}

int RunEvents(const EventsOptions& options, const Run& run) {
  BrokerClientOptions client;
  client.address = run.admin_address;
  if (absl::Status bad = CheckOptions(client); !bad.ok()) {
    return FailAdmin(run, bad);
  }
  auto channel = MakeChannel(client);
  if (!channel.ok()) return FailAdmin(run, channel.status());
  const auto stub = v1::Admin::NewStub(*channel);
  grpc::ClientContext context;
  if (options.follow) {
    Channel::PrepareStream(context, run.Call());
  } else {
    Channel(client, *channel).Prepare(context, run.Call());
  }
  const auto reader = stub->WatchEvents(&context, RequestOf(options));
  v1::WatchEventsResponse response;
  uint64_t sequence = 0;
  while (run.io.out.good() && reader->Read(&response)) {
    Print(response, options.output, run);
    sequence = response.sequence();
  }
  if (!run.io.out.good()) context.TryCancel();
  const grpc::Status status = reader->Finish();
  const bool time_is_up =
      options.follow && !run.max_time.empty() &&
      status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
  if (status.ok() || time_is_up || !run.io.out.good()) return kExitOk;
  const int code =
      FailAdmin(run, MakeStatus(status.error_code(), status.error_message(),
                                status.error_details()));
  if (sequence > 0) {
    run.io.err << "hotline: go on with --since " << sequence << "\n";
  }
  return code;
}

}  // namespace

void AddEvents(CLI::App& app, Run& run) {
  auto options = std::make_shared<EventsOptions>();
  CLI::App* command =
      app.add_subcommand("events", "Show what happened in the broker");
  command->add_flag("-f,--follow", options->follow,
                    "Go on with what happens from now on, until interrupted or "
                    "for --max-time");
  command->add_option("--target", options->target, "Only this target")
      ->type_name("TARGET");
  command
      ->add_option("--kind", options->kinds,
                   "Only this kind of event; may be repeated")
      ->type_name("")
      ->allow_extra_args(false)
      ->check(CLI::IsMember(KindNames()));
  command
      ->add_option("--since", options->since,
                   "Only events after the one of this number (default: all "
                   "that are kept)")
      ->type_name("SEQ");
  command
      ->add_option("--output", options->output,
                   "text: a line for each event. json: a line for each "
                   "response, with the names of the .proto file")
      ->type_name("")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->footer(
      Examples("  hotline events --target https://api.example.com\n"
               "  hotline events -f --kind breaker --kind operator\n"
               "  hotline events -f --since 4711 --output json\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] { return RunEvents(*options, run); };
  });
}

}  // namespace hotline::client
