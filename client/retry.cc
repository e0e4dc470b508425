#include "client/retry.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

namespace hotline::client {
namespace {

// Up to initial * 2^(attempts - 1), capped; multiplied by `random`.
Duration Backoff(int attempts, double random, const RetryOptions& options) {
  Duration bound = options.initial_backoff;
  for (int i = 1; i < attempts && bound < options.max_backoff; ++i) bound *= 2;
  bound = std::min(bound, options.max_backoff);
  return Duration(
      static_cast<int64_t>(static_cast<double>(bound.count()) * random));
}

}  // namespace

std::optional<Duration> RetryPause(const absl::Status& status, bool harmless,
                                   int attempts, Duration remaining,
                                   double random, const RetryOptions& options) {
  if (!absl::IsUnavailable(status)) return std::nullopt;
  if (attempts >= options.max_attempts) return std::nullopt;
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  const bool ours = info.has_value() && info->domain == kErrorDomain;
  if (!ours && !harmless) return std::nullopt;
  Duration pause = Backoff(attempts, random, options);
  if (ours && info->retry_after.has_value()) {
    pause = std::max(pause, *info->retry_after);
  }
  if (pause >= remaining) return std::nullopt;
  return pause;
}

bool HarmlessTwice(const v1::ExecuteRequest& request) {
  if (request.retry().idempotent()) return true;
  static constexpr std::array<std::string_view, 7> kHarmless = {
      "", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
  return std::find(kHarmless.begin(), kHarmless.end(), request.method()) !=
         kHarmless.end();
}

}  // namespace hotline::client
