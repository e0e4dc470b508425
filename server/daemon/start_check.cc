#include "server/daemon/start_check.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "net/tls/tls.h"
#include "server/front/certificates.h"
#include "server/front/listener.h"
#include "upstream/upstream.h"

namespace hotline::server {
namespace {

absl::Status CheckCertificates(const TlsFiles& files,
                               std::vector<std::string>* warnings) {
  if (files.cert_file.empty()) return absl::OkStatus();
  const auto loaded = Certificates::Load(files);
  if (!loaded.ok()) return loaded.status();
  if ((*loaded)->expires() <= std::chrono::system_clock::now()) {
    warnings->push_back(absl::StrCat(
        "listen.tls.cert_file: the certificate in ", files.cert_file,
        " has expired: callers cannot connect over TLS"));
  }
  return absl::OkStatus();
}

}  // namespace

ConfigChecks ChecksOfStart() { return {.tls_profile = net::CheckTlsProfile}; }

absl::Status CheckStart(const std::shared_ptr<const Settings>& settings,
                        std::vector<std::string>* warnings) {
  std::vector<std::string> faults;
  const auto add = [&faults](const absl::Status& status) {
    if (!status.ok()) faults.emplace_back(status.message());
  };
  add(CheckCertificates(settings->front.tls, warnings));
  for (const std::string& address : settings->front.door.addresses) {
    add(Listener::Check(address));
  }
  for (const std::string& address :
       {settings->http_listen, settings->admin.address}) {
    if (!address.empty()) add(Listener::Check(address));
  }
  add(upstream::Upstream::CheckOptions(UpstreamOptions(settings)));
  for (const std::string& source : settings->upstream.source_addresses) {
    const bool v6 = source.find(':') != source.npos;
    const std::string any_port =
        v6 ? absl::StrCat("[", source, "]:0") : absl::StrCat(source, ":0");
    if (Listener::Check(any_port).ok()) continue;
    warnings->push_back(absl::StrCat("upstream.source_addresses: ", source,
                                     " is not an address of this machine: "
                                     "dials from it fail"));
  }
  if (faults.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrJoin(faults, "\n"));
}

}  // namespace hotline::server
