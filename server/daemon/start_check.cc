#include "server/daemon/start_check.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/read_file.h"
#include "net/tls/server.h"
#include "net/tls/tls.h"
#include "server/front/listener.h"
#include "upstream/upstream.h"

namespace hotline::server {
namespace {

using Faults = std::vector<KeyFault>;

void AddIfBad(const std::string& path, const absl::Status& status,
              Faults* faults) {
  if (status.ok()) return;
  faults->push_back({path, std::string(status.message())});
}

void CheckCertificates(const TlsFiles& files, Faults* faults) {
  if (files.cert_file.empty()) return;
  net::TlsServerPems pems;
  struct File {
    const char* key;
    const std::string& path;
    std::string& text;
  };
  const File all[] = {{"cert_file", files.cert_file, pems.certificates},
                      {"key_file", files.key_file, pems.key},
                      {"client_ca_file", files.client_ca_file, pems.client_ca}};
  constexpr size_t kMostBytes = 1 << 20;
  const size_t before = faults->size();
  for (const File& file : all) {
    auto text = ReadFile(file.path, kMostBytes + 1);
    AddIfBad(absl::StrCat("listen.tls.", file.key), text.status(), faults);
    if (text.ok()) file.text = *std::move(text);
  }
  if (faults->size() > before) return;
  std::vector<net::TlsFault> wrong;
  const auto context = net::TlsServerContext::Create(pems, &wrong);
  for (const net::TlsFault& fault : wrong) {
    for (const File& file : all) {
      if (fault.key != file.key) continue;
      faults->push_back({absl::StrCat("listen.tls.", fault.key),
                         absl::StrCat(file.path, " ", fault.text)});
    }
  }
  if (context == nullptr) return;
  const auto expires =
      std::chrono::system_clock::from_time_t(context->not_after());
  if (expires > std::chrono::system_clock::now()) return;
  faults->push_back({"listen.tls.cert_file",
                     absl::StrCat("the certificate in ", files.cert_file,
                                  " has expired: callers cannot connect over "
                                  "TLS"),
                     /*warning=*/true});
}

void CheckListeners(const Settings& settings, Faults* faults) {
  const std::vector<std::string>& grpc = settings.front.door.addresses;
  for (size_t i = 0; i < grpc.size(); ++i) {
    AddIfBad(absl::StrCat("listen.grpc[", i, "]"), Listener::Check(grpc[i]),
             faults);
  }
  for (const auto& [key, address] :
       {std::pair("listen.http", settings.http_listen),
        std::pair("listen.admin", settings.admin.address)}) {
    if (!address.empty()) AddIfBad(key, Listener::Check(address), faults);
  }
}

void CheckSources(const std::vector<std::string>& sources, Faults* faults) {
  for (size_t i = 0; i < sources.size(); ++i) {
    const std::string& source = sources[i];
    const bool v6 = source.find(':') != source.npos;
    const std::string any_port =
        v6 ? absl::StrCat("[", source, "]:0") : absl::StrCat(source, ":0");
    if (Listener::Check(any_port).ok()) continue;
    faults->push_back({absl::StrCat("upstream.source_addresses[", i, "]"),
                       absl::StrCat(source,
                                    " is not an address of this machine: "
                                    "dials from it fail"),
                       /*warning=*/true});
  }
}

// It is replaced by a file that is written next to it.
void CheckWarmSet(const std::string& file, Faults* faults) {
  if (file.empty()) return;
  const std::string parent = std::filesystem::path(file).parent_path();
  const std::string directory = parent.empty() ? std::string(".") : parent;
  if (access(directory.c_str(), W_OK | X_OK) == 0) return;
  faults->push_back(
      {"rewarm.file",
       absl::StrCat("nothing can be written to ", directory, ": ",
                    std::strerror(errno), ": the warm set is not saved"),
       /*warning=*/true});
}

}  // namespace

ConfigChecks ChecksOfStart() {
  ConfigChecks checks;
  checks.tls_profile = net::CheckTlsProfile;
  return checks;
}

ConfigChecks ChecksOfMachine() {
  ConfigChecks checks = ChecksOfStart();
  checks.machine = CheckMachine;
  return checks;
}

std::vector<KeyFault> CheckMachine(const Settings& settings) {
  Faults faults;
  CheckCertificates(settings.front.tls, &faults);
  CheckListeners(settings, &faults);
  CheckSources(settings.upstream.source_addresses, &faults);
  CheckWarmSet(settings.rewarm.file, &faults);
  const auto copy = std::make_shared<const Settings>(settings);
  AddIfBad("", upstream::Upstream::CheckOptions(UpstreamOptions(copy)),
           &faults);
  return faults;
}

absl::Status CheckStart(const std::shared_ptr<const Settings>& settings,
                        std::vector<std::string>* warnings) {
  std::vector<std::string> faults;
  for (const KeyFault& fault : CheckMachine(*settings)) {
    (fault.warning ? *warnings : faults)
        .push_back(absl::StrCat(fault.path, fault.path.empty() ? "" : ": ",
                                fault.text));
  }
  if (faults.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrJoin(faults, "\n"));
}

}  // namespace hotline::server
