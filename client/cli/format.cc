#include "client/cli/format.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "base/text.h"
#include "client/broker_client.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

constexpr Duration kLongest = std::chrono::hours(24);

// "client (purpose) for 3 s"
std::string FormatHolder(const v1::HolderAge& holder) {
  std::string text = Printable(holder.holder().client_id());
  if (text.empty()) text = "somebody";
  if (!holder.holder().purpose().empty()) {
    absl::StrAppend(&text, " (", Printable(holder.holder().purpose()), ")");
  }
  return absl::StrCat(text, " for ", FormatDuration(holder.age()));
}

// Text from the broker or another program, escaped, on one line.
std::string Text(absl::string_view text) {
  return Printable({text.data(), text.size()});
}

// Three significant digits.
std::string Digits(double value, const char* unit) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f %s", decimals, value, unit);
}

// gRPC's message about a failed connection is long; the address says more.
std::string LibraryMessage(const absl::Status& status,
                           std::string_view address) {
  const std::string message = Text(status.message());
  if (!absl::IsUnavailable(status)) return message;
  return absl::StrCat("no answer from the broker at ", Printable(address), " (",
                      message, ")");
}

// "headers[3].name (X-Id): ", or nothing if no field is at fault.
std::string FormatField(const std::string& field, const Headers* headers) {
  if (field.empty()) return "";
  std::string text = Printable(field);
  constexpr absl::string_view kHeaders = "headers[";
  const size_t at = field.find(kHeaders.data());
  int index = 0;
  if (headers != nullptr && at != field.npos &&
      absl::SimpleAtoi(field.substr(at + kHeaders.size(),
                                    field.find(']', at) - at - kHeaders.size()),
                       &index) &&
      index >= 0 && index < headers->size()) {
    absl::StrAppend(&text, " (", Printable(headers->Get(index).name()), ")");
  }
  return text + ": ";
}

}  // namespace

std::optional<Duration> ParseDuration(const std::string& text) {
  absl::Duration parsed;
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    parsed = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &parsed)) {
    return std::nullopt;
  }
  // Also false for NaN.
  const bool fits =
      parsed >= absl::ZeroDuration() && parsed <= absl::FromChrono(kLongest);
  if (!fits) return std::nullopt;
  return absl::ToChronoNanoseconds(parsed);
}

std::string FormatDuration(Duration duration) {
  if (duration == Duration(0)) return "0 us";
  const double seconds = ToSeconds(duration);
  if (seconds < 0.0009995) return Digits(seconds * 1e6, "us");
  if (seconds < 0.9995) return Digits(seconds * 1e3, "ms");
  if (seconds < 60) return Digits(seconds, "s");
  const int64_t whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 3600) return absl::StrCat(whole / 60, " m ", whole % 60, " s");
  return absl::StrCat(whole / 3600, " h ", whole % 3600 / 60, " m");
}

std::string FormatDuration(const google::protobuf::Duration& duration) {
  return FormatDuration(FromProto(duration));
}

std::string FormatWait(const v1::WaitExplanation& wait) {
  std::string text = absl::StrCat("waited for ", Printable(wait.limit()));
  if (wait.limit_value() > 0) {
    absl::StrAppend(&text, " (limit ", wait.limit_value(), ")");
  }
  if (wait.place() > 0) {
    absl::StrAppend(&text, ", place ", wait.place(), " in the queue");
  }
  absl::StrAppend(&text, ", ", wait.dials_in_flight(), " dials in flight");
  if (!wait.last_dial_error().empty()) {
    absl::StrAppend(&text,
                    ", last dial error: ", Printable(wait.last_dial_error()));
  }
  if (wait.oldest_holders_size() > 0) {
    absl::StrAppend(&text, ", held by ",
                    absl::StrJoin(wait.oldest_holders(), ", ",
                                  [](std::string* out, const auto& holder) {
                                    absl::StrAppend(out, FormatHolder(holder));
                                  }));
  }
  return text;
}

std::string FormatError(const absl::Status& status, std::string_view address,
                        const Headers* headers) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info.has_value()) {
    return absl::StrCat(absl::StatusCodeToString(status.code()), ": ",
                        LibraryMessage(status, address), "\n");
  }
  std::string text = absl::StrCat(Printable(info->reason), ": ",
                                  FormatField(info->field, headers),
                                  Text(status.message()), "\n");
  if (info->wait.has_value()) {
    absl::StrAppend(&text, "  ", FormatWait(*info->wait), "\n");
  }
  if (info->retry_after.has_value()) {
    absl::StrAppend(&text, "  try again in ",
                    FormatDuration(*info->retry_after), "\n");
  }
  return text;
}

std::string EscapedText::Next(std::string_view piece) {
  rest_ += piece;
  const size_t end = rest_.size() - UnfinishedEnd(rest_);
  std::string shown;
  AppendEscaped(&shown, std::string_view(rest_).substr(0, end), Escape::kLines);
  rest_.erase(0, end);
  return shown;
}

std::string EscapedText::End() {
  std::string shown;
  AppendEscaped(&shown, rest_, Escape::kLines);
  rest_.clear();
  return shown;
}

std::string FormatConnection(const v1::ConnectionInfo& connection) {
  std::string text = absl::StrCat("#", connection.connection_id(), " ",
                                  Printable(connection.protocol()), " to ",
                                  Printable(connection.remote_address()));
  if (!connection.tls_version().empty()) {
    absl::StrAppend(&text, " (", Printable(connection.tls_version()), " ",
                    Printable(connection.tls_cipher()), ")");
  }
  if (!connection.reused()) return absl::StrCat(text, ", new");
  return absl::StrCat(text, ", reused, ", connection.calls(),
                      connection.calls() == 1 ? " call" : " calls", " before, ",
                      FormatDuration(connection.age()), " old");
}

std::string FormatTimings(const v1::Timings& timings) {
  const std::array<std::pair<const char*, const google::protobuf::Duration*>, 8>
      phases = {{
          {"wait", timings.has_wait() ? &timings.wait() : nullptr},
          {"resolve", timings.has_resolve() ? &timings.resolve() : nullptr},
          {"connect", timings.has_connect() ? &timings.connect() : nullptr},
          {"tls", timings.has_tls() ? &timings.tls() : nullptr},
          {"validate", timings.has_validate() ? &timings.validate() : nullptr},
          {"first byte",
           timings.has_first_byte() ? &timings.first_byte() : nullptr},
          {"transfer", timings.has_transfer() ? &timings.transfer() : nullptr},
          {"total", timings.has_total() ? &timings.total() : nullptr},
      }};
  std::string text;
  for (const auto& [name, duration] : phases) {
    if (duration == nullptr) continue;
    absl::StrAppendFormat(&text, "  %-11s %10s\n", name,
                          FormatDuration(*duration));
  }
  return text;
}

std::string FormatReceipt(const v1::Receipt& receipt) {
  std::string text = absl::StrCat(
      "connection ", FormatConnection(receipt.connection()), "\n",
      FormatTimings(receipt.timings()), "attempts   ", receipt.attempts());
  if (receipt.failed_attempts_size() > 0) {
    absl::StrAppend(&text, " (failed: ",
                    Printable(absl::StrJoin(receipt.failed_attempts(), ", ")),
                    ")");
  }
  text += '\n';
  if (receipt.has_wait()) {
    absl::StrAppend(&text, "wait       ", FormatWait(receipt.wait()), "\n");
  }
  return text;
}

}  // namespace hotline::client
