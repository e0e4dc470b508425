#include "server/daemon/start_check.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/daemon/upstream_options.h"
#include "server/front/certificates.h"
#include "server/front/listener.h"
#include "upstream/upstream.h"

namespace hotline::server {
namespace {

absl::Status CheckCertificates(const ListenSettings& listen,
                               std::vector<std::string>* warnings) {
  if (listen.cert_file.empty()) return absl::OkStatus();
  const auto loaded = Certificates::Load(
      {listen.cert_file, listen.key_file, listen.client_ca_file});
  if (!loaded.ok()) return loaded.status();
  if ((*loaded)->expires() <= std::chrono::system_clock::now()) {
    warnings->push_back(absl::StrCat(
        "listen.tls.cert_file: the certificate in ", listen.cert_file,
        " has expired: callers over TLS will not connect"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStart(const std::shared_ptr<const Settings>& settings,
                        std::vector<std::string>* warnings) {
  std::vector<std::string> faults;
  const auto add = [&faults](const absl::Status& status) {
    if (!status.ok()) faults.emplace_back(status.message());
  };
  add(CheckCertificates(settings->listen, warnings));
  for (const std::string& address : settings->grpc_listen) {
    add(Listener::Check(address));
  }
  if (!settings->http_listen.empty()) {
    add(Listener::Check(settings->http_listen));
  }
  add(upstream::Upstream::CheckOptions(UpstreamOptionsOf(settings)));
  for (const std::string& source : settings->upstream.source_addresses) {
    const bool v6 = source.find(':') != source.npos;
    const std::string any_port =
        v6 ? absl::StrCat("[", source, "]:0") : absl::StrCat(source, ":0");
    if (Listener::Check(any_port).ok()) continue;
    warnings->push_back(absl::StrCat("upstream.source_addresses: ", source,
                                     " is no address of this machine: nothing "
                                     "can be dialled from it"));
  }
  if (faults.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrJoin(faults, "\n"));
}

}  // namespace hotline::server
