#include "upstream/dial/tls_profiles.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace hotline::upstream {
namespace {

std::string Describe(const net::TlsProfile& profile,
                     const net::TlsFault& fault) {
  return absl::StrCat("TLS profile \"", profile.name, "\": ", fault.key,
                      fault.key.empty() ? "" : ": ", fault.text);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TlsProfiles>> TlsProfiles::Create(
    Options options, const TlsProfiles* before) {
  std::shared_ptr<TlsProfiles> made(new TlsProfiles(std::move(options)));
  const std::string error = made->Fill(before);
  if (!error.empty()) return absl::InvalidArgumentError(error);
  return made;
}

std::shared_ptr<const TlsProfiles> TlsProfiles::Refresh(
    std::string* error) const {
  std::shared_ptr<TlsProfiles> made(new TlsProfiles(options_));
  *error = made->Fill(this);
  for (const auto& [name, entry] : entries_) {
    const Entry* const now = made->EntryOf(name);
    if (now->context != entry.context) return made;
  }
  return nullptr;
}

std::shared_ptr<const net::TlsContext> TlsProfiles::Find(
    std::string_view name) const {
  const Entry* const entry = EntryOf(name);
  return entry == nullptr ? nullptr : entry->context;
}

const TlsProfiles::Entry* TlsProfiles::EntryOf(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

std::string TlsProfiles::Fill(const TlsProfiles* before) {
  std::set<std::string> errors;
  const auto fill = [&](const net::TlsProfile& profile) {
    std::string error = FillOne(profile, before);
    if (error.empty()) return;
    errors.insert(std::move(error));
    const Entry* const old =
        before == nullptr ? nullptr : before->EntryOf(profile.name);
    if (old != nullptr) entries_.emplace(profile.name, *old);
  };
  for (const net::TlsProfile& profile : net::BuiltInTlsProfiles())
    fill(profile);
  for (const net::TlsProfile& profile : options_.profiles) fill(profile);
  return absl::StrJoin(errors, "; ");
}

std::string TlsProfiles::FillOne(net::TlsProfile profile,
                                 const TlsProfiles* before) {
  if (entries_.contains(profile.name)) {
    return Describe(profile, {"name", "the name is given twice"});
  }
  if (profile.ca_file.empty()) profile.ca_file = options_.ca_file;
  // Taken before reading: a change in between is noticed the next time.
  Entry entry{.profile = profile,
              .cert = FileStamp::Of(profile.cert_file),
              .key = FileStamp::Of(profile.key_file),
              .authorities = nullptr,
              .context = nullptr};
  const Authorities& authorities = AuthoritiesFor(profile.ca_file, before);
  if (authorities.loaded == nullptr) return authorities.error;
  entry.authorities = authorities.loaded;
  const Entry* const old =
      before == nullptr ? nullptr : before->EntryOf(profile.name);
  if (old != nullptr && old->profile == profile && old->cert == entry.cert &&
      old->key == entry.key && old->authorities == entry.authorities &&
      before->options_.session_lifetime == options_.session_lifetime) {
    entry.context = old->context;
  } else {
    const auto lifetime = std::chrono::duration_cast<std::chrono::seconds>(
        options_.session_lifetime);
    std::vector<net::TlsFault> faults;
    entry.context = net::TlsContext::Create(
        profile, entry.authorities, options_.sessions,
        static_cast<uint32_t>(lifetime.count()), &faults);
    if (entry.context == nullptr) return Describe(profile, faults[0]);
  }
  entries_.emplace(profile.name, std::move(entry));
  return "";
}

const TlsProfiles::Authorities& TlsProfiles::AuthoritiesFor(
    const std::string& ca_file, const TlsProfiles* before) {
  const auto known = authorities_.find(ca_file);
  if (known != authorities_.end()) return known->second;
  Authorities authorities;
  authorities.stamp = FileStamp::Of(
      ca_file.empty() ? net::TlsAuthorities::SystemFile() : ca_file);
  if (before != nullptr) {
    const auto old = before->authorities_.find(ca_file);
    if (old != before->authorities_.end() && old->second.loaded != nullptr &&
        old->second.stamp == authorities.stamp) {
      return authorities_.emplace(ca_file, old->second).first->second;
    }
  }
  authorities.loaded = net::TlsAuthorities::Load(ca_file, &authorities.error);
  return authorities_.emplace(ca_file, std::move(authorities)).first->second;
}

}  // namespace hotline::upstream
