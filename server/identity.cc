#include "server/identity.h"

#include <algorithm>

namespace hotline::server {
namespace {

// Longer than any name that is meant.
constexpr size_t kMostName = 2048;

bool Fits(std::string_view name) {
  return !name.empty() && name.size() <= kMostName &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return c > 0x20 && c != 0x7f; });
}

}  // namespace

std::string NameOfCertificate(const std::vector<std::string_view>& uris,
                              const std::vector<std::string_view>& dns_names,
                              std::string_view common_name) {
  for (const std::string_view uri : uris) {
    if (uri.starts_with("spiffe://") && Fits(uri)) return std::string(uri);
  }
  for (const std::string_view name : dns_names) {
    if (Fits(name)) return "dns:" + std::string(name);
  }
  // Common names are for people, and may have blanks in them.
  if (common_name.empty() || common_name.size() > kMostName) return "";
  return "cn:" + std::string(common_name);
}

IdentityPtr IdentityTable::Get(std::string_view name) {
  MutexLock lock(&mu_);
  const auto found = identities_.find(std::string(name));
  if (found != identities_.end()) return found->second;
  if (identities_.size() >= sweep_at_) {
    // Whoever is not held by anybody else has nothing that could be lost.
    absl::erase_if(identities_, [](const auto& entry) {
      return entry.second.use_count() == 1;
    });
    sweep_at_ = std::max<size_t>(1024, 2 * identities_.size());
  }
  auto identity = std::make_shared<Identity>();
  identity->name = name;
  identity->owner = next_owner_++;
  identities_.emplace(name, identity);
  return identity;
}

size_t IdentityTable::size() const {
  MutexLock lock(&mu_);
  return identities_.size();
}

}  // namespace hotline::server
