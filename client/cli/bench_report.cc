#include "client/cli/bench_report.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/text.h"
#include "client/cli/format.h"

namespace hotline::client {
namespace {

constexpr std::pair<const char*, double> kQuantiles[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};

double RateOf(uint64_t count, Duration took) {
  return static_cast<double>(count) / std::max(ToSeconds(took), 1e-9);
}

// Escapes a reason, although it is a word of ours or of the broker's.
std::string Quoted(const std::string& text) {
  std::string out = "\"";
  AppendEscaped(&out, text, Escape::kJson);
  return out + "\"";
}

double Us(Duration duration) {
  return static_cast<double>(duration.count()) / 1e3;
}

}  // namespace

std::string BenchLine(const BenchResult& now, const BenchResult& before) {
  return absl::StrFormat("%3.0f s  %.0f/s  p50 %s  p99 %s  max %s  %d failed",
                         ToSeconds(now.took),
                         RateOf(now.ok() - before.ok(), now.took - before.took),
                         FormatDuration(now.latency.Quantile(0.5)),
                         FormatDuration(now.latency.Quantile(0.99)),
                         FormatDuration(now.latency.max()), now.failed());
}

std::string BenchTable(const BenchTitle& title, const BenchResult& result) {
  std::string text = absl::StrFormat(
      "%s over %s, %d at once, %d connection%s, %s%s\n",
      title.what == "acquire" ? "acquire + release" : title.what, title.over,
      title.concurrency, title.connections, title.connections == 1 ? "" : "s",
      FormatDuration(result.took), result.interrupted ? " (interrupted)" : "");
  if (title.rate > 0) {
    absl::StrAppend(&text, absl::StrFormat("wanted     %.0f/s; latency from "
                                           "when each was due\n",
                                           title.rate));
  }
  absl::StrAppend(
      &text,
      absl::StrFormat("ok         %d, %.0f/s\nfailed     %d\n", result.ok(),
                      RateOf(result.ok(), result.took), result.failed()));
  for (const auto& [reason, count] : result.errors) {
    absl::StrAppend(&text, absl::StrFormat("  %-24s %d\n", reason, count));
  }
  absl::StrAppend(&text, "latency   ");
  for (const auto& [name, q] : kQuantiles) {
    absl::StrAppend(&text, " ", name, " ",
                    FormatDuration(result.latency.Quantile(q)), " ");
  }
  absl::StrAppend(&text, " max ", FormatDuration(result.latency.max()), "\n");
  return text;
}

std::string BenchJson(const BenchTitle& title, const BenchResult& result) {
  std::string latency =
      absl::StrFormat("\"mean\": %.3f", Us(result.latency.mean()));
  for (const auto& [name, q] : kQuantiles) {
    absl::StrAppend(&latency, absl::StrFormat(", \"%s\": %.3f", name,
                                              Us(result.latency.Quantile(q))));
  }
  absl::StrAppend(&latency,
                  absl::StrFormat(", \"max\": %.3f", Us(result.latency.max())));
  std::string errors;
  for (const auto& [reason, count] : result.errors) {
    absl::StrAppend(&errors, errors.empty() ? "" : ", ", Quoted(reason), ": ",
                    count);
  }
  return absl::StrFormat(
      "{\"what\": \"%s\", \"over\": %s, \"concurrency\": %d, "
      "\"connections\": %d, \"wanted_rate\": %.3f, \"seconds\": %.6f, "
      "\"interrupted\": %s, \"ok\": %d, \"failed\": %d, \"rate\": %.3f, "
      "\"latency_us\": {%s}, \"errors\": {%s}}\n",
      title.what, Quoted(title.over), title.concurrency, title.connections,
      title.rate, ToSeconds(result.took), result.interrupted ? "true" : "false",
      result.ok(), result.failed(), RateOf(result.ok(), result.took), latency,
      errors);
}

}  // namespace hotline::client
