#include "server/front/certificates.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/read_file.h"

namespace hotline::server {
namespace {

constexpr size_t kMostBytes = 1 << 20;

absl::StatusOr<net::TlsServerPems> ReadPems(const TlsFiles& files) {
  net::TlsServerPems out;
  const std::pair<const std::string&, std::string&> all[] = {
      {files.cert_file, out.certificates},
      {files.key_file, out.key},
      {files.client_ca_file, out.client_ca}};
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

absl::StatusOr<std::shared_ptr<const net::TlsServerContext>> MakeContext(
    const TlsFiles& files, const net::TlsServerPems& pems) {
  std::vector<net::TlsFault> faults;
  auto context = net::TlsServerContext::Create(pems, &faults);
  if (context != nullptr) return context;
  std::vector<std::string> texts;
  for (const net::TlsFault& fault : faults) {
    const std::string& file = fault.key == "cert_file"  ? files.cert_file
                              : fault.key == "key_file" ? files.key_file
                                                        : files.client_ca_file;
    texts.push_back(absl::StrCat(file, " ", fault.text));
  }
  return absl::InvalidArgumentError(absl::StrJoin(texts, "; "));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Certificates>> Certificates::Load(
    TlsFiles files) {
  auto pems = ReadPems(files);
  if (!pems.ok()) return pems.status();
  auto context = MakeContext(files, *pems);
  if (!context.ok()) return context.status();
  return std::unique_ptr<Certificates>(new Certificates(
      std::move(files), *std::move(pems), *std::move(context)));
}

absl::StatusOr<bool> Certificates::Refresh() {
  auto pems = ReadPems(files_);
  if (!pems.ok()) return pems.status();
  if (*pems == pems_) return false;
  auto context = MakeContext(files_, *pems);
  if (!context.ok()) return context.status();
  contexts_.Exchange(*std::move(context));
  pems_ = *std::move(pems);
  return true;
}

}  // namespace hotline::server
