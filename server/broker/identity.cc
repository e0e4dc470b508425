#include "server/broker/identity.h"

#include <algorithm>

namespace hotline::server {
namespace {

// Longer than any real name.
constexpr size_t kMostName = 2048;

constexpr size_t kMostTrustDomain = 255;
constexpr std::string_view kSpiffe = "spiffe://";

bool IsAlphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9');
}

bool IsSpiffeChar(char c) {
  return IsAlphanumeric(c) || c == '.' || c == '_' || c == '-';
}

bool IsDnsChar(char c) { return IsSpiffeChar(c) || c == '*'; }

template <typename Test>
bool IsMadeOf(std::string_view text, Test test) {
  return !text.empty() && std::all_of(text.begin(), text.end(), test);
}

bool IsTrustDomain(std::string_view text) {
  return text.size() <= kMostTrustDomain && IsMadeOf(text, [](char c) {
           return IsSpiffeChar(c) && !(c >= 'A' && c <= 'Z');
         });
}

}  // namespace

bool IsSpiffeId(std::string_view uri) {
  if (!uri.starts_with(kSpiffe) || uri.size() > kMostName) return false;
  uri.remove_prefix(kSpiffe.size());
  size_t slash = uri.find('/');
  if (slash == std::string_view::npos) return false;
  if (!IsTrustDomain(uri.substr(0, slash))) return false;
  while (slash != std::string_view::npos) {
    uri.remove_prefix(slash + 1);
    slash = uri.find('/');
    const std::string_view segment = uri.substr(0, slash);
    if (!IsMadeOf(segment, IsSpiffeChar) || segment == "." || segment == "..") {
      return false;
    }
  }
  return true;
}

std::string NameOfCertificate(const std::vector<std::string_view>& uris,
                              const std::vector<std::string_view>& dns_names,
                              std::string_view common_name) {
  if (uris.size() == 1 && IsSpiffeId(uris[0])) return std::string(uris[0]);
  for (const std::string_view name : dns_names) {
    if (name.size() <= kMostName && IsMadeOf(name, IsDnsChar)) {
      return "dns:" + std::string(name);
    }
  }
  // Common names are for people and may contain blanks.
  const bool fits = common_name.size() <= kMostName &&
                    IsMadeOf(common_name, [](unsigned char c) {
                      return c >= 0x20 && c != 0x7f;
                    });
  if (!fits) return "";
  return "cn:" + std::string(common_name);
}

IdentityPtr IdentityTable::Get(std::string_view name) {
  MutexLock lock(&mu_);
  const auto found = identities_.find(std::string(name));
  if (found != identities_.end()) return found->second;
  if (identities_.size() >= sweep_at_) {
    Sweep();
    sweep_at_ = std::max<size_t>(1024, 2 * identities_.size());
  }
  auto identity = std::make_shared<Identity>();
  identity->name = name;
  identity->owner = next_owner_++;
  identities_.emplace(name, identity);
  return identity;
}

std::string IdentityTable::NameOfOwner(uint64_t owner) const {
  MutexLock lock(&mu_);
  for (const auto& [name, identity] : identities_) {
    if (identity->owner == owner) return name;
  }
  return "";
}

// An entry without another reference has no usage that a quota limits.
void IdentityTable::Sweep() {
  for (auto next = identities_.begin(); next != identities_.end();) {
    const auto entry = next++;
    if (entry->second.use_count() > 1) continue;
    dropped_.calls += entry->second->calls.Read();
    dropped_.denials += entry->second->denials;
    identities_.erase(entry);
  }
}

std::vector<IdentityUsage> IdentityTable::Usage() const {
  MutexLock lock(&mu_);
  std::vector<IdentityUsage> rows = {dropped_};
  for (const auto& [name, identity] : identities_) {
    IdentityUsage row{name, identity->calls.Read(), identity->denials};
    if (row.calls + row.denials > 0) rows.push_back(std::move(row));
  }
  return rows;
}

size_t IdentityTable::size() const {
  MutexLock lock(&mu_);
  return identities_.size();
}

}  // namespace hotline::server
