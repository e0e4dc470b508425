// Formats figures and messages for people.
#ifndef HOTLINE_CLIENT_CLI_FORMAT_H_
#define HOTLINE_CLIENT_CLI_FORMAT_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/time.h"
#include "google/protobuf/duration.pb.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

// Parses "1.5s", "200ms", "2m", or a bare number of seconds: "0.5". Returns
// nothing for other text, and for durations that are negative or above 24 h.
std::optional<Duration> ParseDuration(const std::string& text);

// Three digits and a unit: "850 us", "1.23 ms", "12.3 s", "3 m 20 s".
std::string FormatDuration(Duration duration);
std::string FormatDuration(const google::protobuf::Duration& duration);

// "waited for target_connections (limit 10), place 3, …"
std::string FormatWait(const v1::WaitExplanation& wait);

// The headers of a request, as the messages of broker.proto hold them.
using Headers = google::protobuf::RepeatedPtrField<v1::Header>;

// One line: "REASON: field: message"; a second one if the error explains a
// wait. `address` is the broker's. `headers`, if not null, are the request's:
// their names are shown where the field at fault is one of them.
std::string FormatError(const absl::Status& status, std::string_view address,
                        const Headers* headers = nullptr);

// Text that arrives in pieces, escaped as kLines of base/text.h.
class EscapedText {
 public:
  // What can be shown so far.
  std::string Next(std::string_view piece);
  // The rest.
  std::string End();

 private:
  std::string rest_;  // The end of a piece, which depends on the next one.
};

// "#17 http/1.1 to 127.0.0.1:8443 (TLSv1.3 …), reused, 41 calls before"
std::string FormatConnection(const v1::ConnectionInfo& connection);

// The durations of the phases, one a line.
std::string FormatTimings(const v1::Timings& timings);

// The receipt of a call: connection, timings, attempts, wait.
std::string FormatReceipt(const v1::Receipt& receipt);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_FORMAT_H_
