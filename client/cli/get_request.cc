// The request of `hotline get`.
#include <fstream>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/get.h"

namespace hotline::client {
namespace {

// Reads at most kMaxBodyBytes + 1 bytes: one more than allowed.
std::string ReadLimited(std::istream& in) {
  std::string bytes(kMaxBodyBytes + 1, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<size_t>(in.gcount()));
  return bytes;
}

// The value of one -d: the text itself, the bytes of @FILE, or @- for standard
// input.
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
  if (!get.upload.empty()) return "PUT";
  return get.data.empty() ? "GET" : "POST";
}

// Several -d are joined with "&" and sent as a form, unless a header sets the
// Content-Type, as with curl.
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
  if (request->body().size() > kMaxBodyBytes) {
    return absl::InvalidArgumentError(
        "-d takes at most 3 MiB; -T sends what is longer");
  }
  if (!get.data.empty() && !HasHeader(*request, "content-type")) {
    v1::Header* type = request->add_headers();
    type->set_name("Content-Type");
    type->set_value("application/x-www-form-urlencoded");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ExecuteRequest> MakeRequest(const GetOptions& get,
                                               std::istream& in) {
  v1::ExecuteRequest request;
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
  if (!get.tls_profile.empty()) {
    request.mutable_options()->set_tls_profile(get.tls_profile);
  }
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

v1::ExecuteStreamHead HeadOf(const v1::ExecuteRequest& request) {
  v1::ExecuteStreamHead head;
  head.set_lease_id(request.lease_id());
  head.set_url(request.url());
  head.set_method(request.method());
  *head.mutable_headers() = request.headers();
  if (request.has_retry()) *head.mutable_retry() = request.retry();
  if (request.has_options()) *head.mutable_options() = request.options();
  return head;
}

}  // namespace hotline::client
