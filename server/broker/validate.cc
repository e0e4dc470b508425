#include "server/broker/validate.h"

#include <string>
#include <string_view>
#include <utility>

#include "base/socket_address.h"

namespace hotline::server {
namespace {

using google::protobuf::Duration;

constexpr int kMaxHeaders = 128;
constexpr size_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxHolderBytes = 128;
constexpr size_t kMaxRequestIdBytes = 64;
constexpr size_t kMaxPoolGroupBytes = 64;
constexpr int kMaxAttempts = 10;
constexpr int kMaxPageSize = 1000;
constexpr size_t kMaxProtocolBytes = 64;
constexpr size_t kMaxCheckPathBytes = 2048;
constexpr int kLeastStatus = 100;
constexpr int kMostStatus = 599;

InputError BadOption(std::string field, std::string message) {
  return {"BAD_OPTION", std::move(field), std::move(message)};
}

// By protobuf's definition: within about 10 000 years, one sign.
bool IsValid(const Duration& length) {
  constexpr int64_t kMostSeconds = 315'576'000'000;
  constexpr int32_t kMostNanos = 999'999'999;
  const int64_t seconds = length.seconds();
  const int32_t nanos = length.nanos();
  return seconds >= -kMostSeconds && seconds <= kMostSeconds &&
         nanos >= -kMostNanos && nanos <= kMostNanos &&
         !(seconds > 0 && nanos < 0) && !(seconds < 0 && nanos > 0);
}

bool IsPositive(const Duration& length) {
  return length.seconds() > 0 || length.nanos() > 0;
}

std::optional<InputError> CheckLength(const Duration& length, const char* field,
                                      bool zero_allowed) {
  if (!IsValid(length)) return BadOption(field, "not a valid duration");
  const bool zero = length.seconds() == 0 && length.nanos() == 0;
  if (IsPositive(length) || (zero && zero_allowed)) return std::nullopt;
  return BadOption(field, zero_allowed ? "must not be negative"
                                       : "must be longer than zero");
}

bool IsPoolGroup(std::string_view text) {
  for (char c : text) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                      c == '-';
    if (!fine) return false;
  }
  return text.size() <= kMaxPoolGroupBytes;
}

// A protocol's name as in ALPN, without characters that need quoting.
bool IsProtocolName(std::string_view text) {
  for (char c : text) {
    if (c <= ' ' || c >= 0x7f) return false;
  }
  return text.size() <= kMaxProtocolBytes;
}

std::optional<InputError> CheckAddresses(const v1::ConnectionOptions& options) {
  const std::string& remote = options.remote_ip();
  const std::string& source = options.source_ip();
  if (!remote.empty() && !IsIpAddress(remote)) {
    return BadOption("options.remote_ip", "must be a numeric address");
  }
  if (!source.empty() && !IsIpAddress(source)) {
    return BadOption("options.source_ip", "must be a numeric address");
  }
  const auto is_v6 = [](const std::string& text) {
    return text.find(':') != std::string::npos;
  };
  if (!remote.empty() && !source.empty() && is_v6(remote) != is_v6(source)) {
    return BadOption("options.source_ip",
                     "must be of the same family as remote_ip");
  }
  return std::nullopt;
}

std::optional<InputError> CheckOptions(const v1::ConnectionOptions& options,
                                       const ParsedTarget& target) {
  if (!options.sni().empty()) {
    if (!target.tls) return BadOption("options.sni", "only with https and tls");
    if (!IsDnsName(options.sni())) {
      return BadOption("options.sni",
                       "must be a DNS name of at most 253 bytes");
    }
  }
  if (!IsPoolGroup(options.pool_group())) {
    return BadOption("options.pool_group",
                     "at most 64 bytes of [A-Za-z0-9._-]");
  }
  if (!options.tls_profile().empty() && !target.tls) {
    return BadOption("options.tls_profile", "only with https and tls");
  }
  if (!options.alpn().empty()) {
    if (!target.tls) {
      return BadOption("options.alpn", "only with https and tls");
    }
    if (target.raw && !IsProtocolName(options.alpn())) {
      return BadOption("options.alpn", "at most 64 visible ASCII characters");
    }
    if (!target.raw && options.alpn() != "h2" && options.alpn() != "http/1.1") {
      return BadOption("options.alpn", "\"h2\" or \"http/1.1\"");
    }
  }
  return CheckAddresses(options);
}

std::optional<InputError> CheckCheck(const v1::ConnectionCheck& check,
                                     const v1::AcquireRequest& request,
                                     const ParsedTarget& target) {
  if (target.raw) return BadOption("validate", "only with https and http");
  const std::string& path = check.path();
  ParsedUrl url;
  if (path.size() > kMaxCheckPathBytes || !path.starts_with('/') ||
      ParseUrl(request.target() + path, &url)) {
    return BadOption("validate.path",
                     "must begin with \"/\" and be the path of a URL, of at "
                     "most 2048 bytes");
  }
  const std::string& method = check.method();
  if (!method.empty() && method != "HEAD" && method != "GET" &&
      method != "OPTIONS") {
    return BadOption("validate.method", "\"HEAD\", \"GET\" or \"OPTIONS\"");
  }
  const int least = check.has_min_status() ? check.min_status() : 200;
  const int most = check.has_max_status() ? check.max_status() : 399;
  const bool fine = least >= kLeastStatus && most <= kMostStatus;
  if (fine && least <= most) return std::nullopt;
  return BadOption("validate",
                   "min_status and max_status are 100 to 599, and min_status "
                   "is not above max_status");
}

std::optional<InputError> CheckHolder(const v1::Holder& holder) {
  const auto too_long = [](const std::string& text) {
    return text.size() > kMaxHolderBytes;
  };
  const char* field = too_long(holder.client_id()) ? "holder.client_id"
                      : too_long(holder.purpose()) ? "holder.purpose"
                      : too_long(holder.trace())   ? "holder.trace"
                                                   : nullptr;
  if (field == nullptr) return std::nullopt;
  return BadOption(field, "at most 128 bytes");
}

std::optional<InputError> CheckRequestId(const std::string& id) {
  if (id.size() <= kMaxRequestIdBytes) return std::nullopt;
  return BadOption("request_id", "at most 64 bytes");
}

std::optional<InputError> CheckHeaders(
    const google::protobuf::RepeatedPtrField<v1::Header>& headers,
    const std::string& field, const ParsedUrl& url) {
  if (headers.size() > kMaxHeaders) {
    return InputError{"BAD_HEADER", field, "at most 128 headers"};
  }
  size_t bytes = 0;
  for (int i = 0; i < headers.size(); ++i) {
    const v1::Header& header = headers[i];
    bytes += header.name().size() + header.value().size();
    if (bytes > kMaxHeaderBytes) {
      return InputError{"BAD_HEADER", field, "at most 65536 bytes in all"};
    }
    if (auto fault = CheckHeader(header.name(), header.value(), url)) {
      return InputError{"BAD_HEADER",
                        field + "[" + std::to_string(i) + "]" +
                            (fault->in_value ? ".value" : ".name"),
                        fault->message};
    }
  }
  return std::nullopt;
}

// `Head` is ExecuteRequest or ExecuteStreamHead.
template <typename Head>
std::optional<InputError> CheckExecuteOptions(const Head& request,
                                              const ParsedTarget& target) {
  if (request.has_timeout()) {
    if (auto bad = CheckLength(request.timeout(), "timeout", false)) return bad;
  }
  const int attempts = request.retry().max_attempts();
  if (attempts < 0 || attempts > kMaxAttempts) {
    return BadOption("retry.max_attempts", "1 to 10, or 0 for the default");
  }
  const v1::ConnectionOptions& options = request.options();
  if (!request.lease_id().empty() &&
      (!options.sni().empty() || !options.pool_group().empty() ||
       !options.alpn().empty() || !options.tls_profile().empty() ||
       !options.remote_ip().empty() || !options.source_ip().empty())) {
    return BadOption("options", "a lease has its connection already");
  }
  return CheckOptions(options, target);
}

}  // namespace

std::optional<InputError> ValidateAcquire(const v1::AcquireRequest& request,
                                          ParsedTarget* target) {
  if (auto bad = ParseTarget(request.target(), target)) return bad;
  if (auto bad = CheckOptions(request.options(), *target)) return bad;
  if (!v1::Mode_IsValid(request.mode())) return BadOption("mode", "unknown");
  if (target->raw && request.mode() != v1::MODE_EXCLUSIVE) {
    return BadOption("mode", "tls and tcp targets need MODE_EXCLUSIVE");
  }
  if (!v1::Reuse_IsValid(request.reuse())) return BadOption("reuse", "unknown");
  if (request.has_lease_ttl()) {
    if (auto bad = ValidateTtl(request.lease_ttl())) return bad;
  }
  if (request.has_max_wait()) {
    if (auto bad = CheckLength(request.max_wait(), "max_wait", true)) {
      return bad;
    }
  }
  if (auto bad = CheckRequestId(request.request_id())) return bad;
  if (request.has_validate()) {
    if (auto bad = CheckCheck(request.validate(), request, *target)) return bad;
  }
  return CheckHolder(request.holder());
}

std::optional<InputError> ValidateExecute(const v1::ExecuteRequest& request,
                                          int64_t max_body_bytes,
                                          ParsedUrl* url) {
  if (auto bad = ParseUrl(request.url(), url)) return bad;
  if (auto bad = ValidateMethod(request.method())) return bad;
  if (auto bad = CheckHeaders(request.headers(), "headers", *url)) return bad;
  if (static_cast<int64_t>(request.body().size()) > max_body_bytes) {
    return InputError{"BODY_TOO_LARGE", "body",
                      "at most " + std::to_string(max_body_bytes) + " bytes"};
  }
  if (request.max_response_bytes() < 0 ||
      request.max_response_bytes() > max_body_bytes) {
    return BadOption("max_response_bytes",
                     "0 to " + std::to_string(max_body_bytes));
  }
  return CheckExecuteOptions(request, url->target);
}

std::optional<InputError> ValidateExecuteStream(
    const v1::ExecuteStreamHead& head, ParsedUrl* url) {
  if (auto bad = ParseUrl(head.url(), url)) return bad;
  if (auto bad = ValidateMethod(head.method())) return bad;
  if (auto bad = CheckHeaders(head.headers(), "headers", *url)) return bad;
  if (head.content_length() < 0) {
    return BadOption("content_length", "must not be negative");
  }
  return CheckExecuteOptions(head, url->target);
}

std::optional<InputError> ValidateTunnel(const v1::TunnelOpen& open,
                                         ParsedTarget* target) {
  const bool leased = !open.lease_id().empty();
  if (!leased || !open.target().empty()) {
    if (auto bad = ParseTarget(open.target(), target)) return bad;
  }
  if (open.has_idle_timeout()) {
    if (auto bad = CheckLength(open.idle_timeout(), "idle_timeout", false)) {
      return bad;
    }
  }
  if (!leased) {
    if (auto bad = CheckOptions(open.options(), *target)) return bad;
    if (open.has_upgrade() && open.options().alpn() == "h2") {
      return BadOption("options.alpn", "an upgrade needs \"http/1.1\"");
    }
    return CheckHolder(open.holder());
  }
  if (open.has_options()) {
    return BadOption("options", "a lease has its connection already");
  }
  if (open.has_holder()) return BadOption("holder", "a lease has one already");
  return std::nullopt;
}

std::optional<InputError> ValidateUpgrade(const v1::TunnelOpen& open,
                                          const std::string& target,
                                          ParsedUrl* url) {
  const v1::Upgrade& upgrade = open.upgrade();
  ParsedTarget parsed;
  if (auto bad = ParseTarget(target, &parsed)) return bad;
  if (parsed.raw != !open.has_upgrade()) {
    return BadOption("upgrade", parsed.raw ? "only with https and http"
                                           : "required with https and http");
  }
  if (parsed.raw) return std::nullopt;
  if (!IsToken(upgrade.protocol()) ||
      upgrade.protocol().size() > kMaxProtocolBytes) {
    return BadOption("upgrade.protocol", "a token of at most 64 bytes");
  }
  if (!upgrade.path().empty() && upgrade.path()[0] != '/') {
    return InputError{"BAD_URL", "upgrade.path", "it begins with \"/\""};
  }
  if (auto bad = ParseUrl(target + upgrade.path(), url)) {
    bad->field = "upgrade.path";
    return bad;
  }
  return CheckHeaders(upgrade.headers(), "upgrade.headers", *url);
}

std::optional<InputError> ValidateTlsProfile(
    const v1::ConnectionOptions& options,
    const std::set<std::string, std::less<>>& known) {
  const std::string& name = options.tls_profile();
  if (name.empty() || known.contains(name)) return std::nullopt;
  return BadOption("options.tls_profile",
                   "there is no TLS profile of that name");
}

std::optional<InputError> ValidateStats(const v1::StatsRequest& request) {
  if (!v1::StatsView_IsValid(request.view())) {
    return BadOption("view", "unknown");
  }
  if (request.page_size() < 0 || request.page_size() > kMaxPageSize) {
    return BadOption("page_size", "1 to 1000, or 0 for the default");
  }
  return std::nullopt;
}

std::optional<InputError> ValidateOutcome(v1::Outcome outcome) {
  if (v1::Outcome_IsValid(outcome)) return std::nullopt;
  return BadOption("outcome", "unknown");
}

std::optional<InputError> ValidateRelease(const v1::ReleaseRequest& request,
                                          ParsedTarget* target) {
  if (auto bad = ValidateOutcome(request.outcome())) return bad;
  if (request.request_id().empty()) {
    if (request.target().empty() && request.client_id().empty()) {
      return std::nullopt;
    }
    return BadOption("request_id", "required with target and client_id");
  }
  if (!request.lease_id().empty()) {
    return BadOption("request_id", "not together with lease_id");
  }
  if (auto bad = CheckRequestId(request.request_id())) return bad;
  if (request.client_id().size() > kMaxHolderBytes) {
    return BadOption("client_id", "at most 128 bytes");
  }
  return ParseTarget(request.target(), target);
}

std::optional<InputError> ValidateTtl(const Duration& ttl) {
  return CheckLength(ttl, "lease_ttl", /*zero_allowed=*/false);
}

}  // namespace hotline::server
