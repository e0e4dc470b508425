#include "server/front/certificates.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"
#include "server/front/key_pair.h"

namespace hotline::server {
namespace {

// How often gRPC looks at the files in memory.
constexpr unsigned kLookEverySeconds = 1;
constexpr size_t kMostBytes = 1 << 20;

absl::Status In(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", status.message()));
}

// Puts `text` where descriptor `*at` is, in one step; the first time takes a
// number for it.
absl::Status Publish(const std::string& text, int* at) {
  const int fresh = memfd_create("hotline-tls", MFD_CLOEXEC);
  const bool written = fresh >= 0 && write(fresh, text.data(), text.size()) ==
                                         static_cast<ssize_t>(text.size());
  if (written && *at < 0) {
    *at = fresh;
    return absl::OkStatus();
  }
  const bool done = written && dup3(fresh, *at, O_CLOEXEC) == *at;
  const int error = errno;
  if (fresh >= 0) close(fresh);
  return done ? absl::OkStatus()
              : absl::ErrnoToStatus(error, "cannot make a file in memory");
}

std::string PathOf(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

}  // namespace

absl::StatusOr<std::unique_ptr<Certificates>> Certificates::Load(
    TlsFiles files) {
  std::unique_ptr<Certificates> out(new Certificates(std::move(files)));
  absl::StatusOr<bool> taken = out->Refresh();
  if (!taken.ok()) return taken.status();
  return out;
}

Certificates::~Certificates() {
  for (const int fd : {pair_, authorities_}) {
    if (fd >= 0) close(fd);
  }
}

std::shared_ptr<grpc::ServerCredentials> Certificates::credentials() const {
  namespace experimental = grpc::experimental;
  const auto provider =
      std::make_shared<experimental::FileWatcherCertificateProvider>(
          PathOf(pair_), PathOf(pair_), PathOf(authorities_),
          kLookEverySeconds);
  experimental::TlsServerCredentialsOptions options(provider);
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  return experimental::TlsServerCredentials(options);
}

absl::StatusOr<bool> Certificates::Refresh() {
  absl::StatusOr<Contents> contents = Read();
  if (!contents.ok()) return contents.status();
  if (*contents == current_) return false;
  absl::Status status = Take(*std::move(contents));
  if (!status.ok()) return status;
  return true;
}

absl::StatusOr<Certificates::Contents> Certificates::Read() const {
  Contents out;
  const std::pair<const std::string&, std::string&> all[] = {
      {files_.cert_file, out.certificates},
      {files_.key_file, out.key},
      {files_.client_ca_file, out.authorities}};
  for (const auto& [path, text] : all) {
    absl::StatusOr<std::string> read = ReadFile(path, kMostBytes + 1);
    if (!read.ok()) return read.status();
    if (read->size() > kMostBytes) {
      return absl::InvalidArgumentError(absl::StrCat(path, " is over 1 MiB"));
    }
    text = *std::move(read);
  }
  return out;
}

absl::Status Certificates::Take(Contents contents) {
  const auto expires = CheckKeyPair(contents.certificates, contents.key);
  if (!expires.ok()) {
    return In(absl::StrCat(files_.cert_file, ", ", files_.key_file),
              expires.status());
  }
  if (absl::Status status = CheckAuthorities(contents.authorities);
      !status.ok()) {
    return In(files_.client_ca_file, status);
  }
  // One file for both: they change in one step.
  absl::Status status =
      Publish(absl::StrCat(contents.key, "\n", contents.certificates), &pair_);
  if (status.ok()) status = Publish(contents.authorities, &authorities_);
  if (!status.ok()) return status;
  expires_ = expires->time_since_epoch().count();
  current_ = std::move(contents);
  return absl::OkStatus();
}

}  // namespace hotline::server
