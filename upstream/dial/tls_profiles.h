// The TLS profiles in force, by name, with their files loaded.
#ifndef HOTLINE_UPSTREAM_DIAL_TLS_PROFILES_H_
#define HOTLINE_UPSTREAM_DIAL_TLS_PROFILES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/file_stamp.h"
#include "base/time.h"
#include "net/tls/tls.h"

namespace hotline::upstream {

// Immutable; thread-safe.
class TlsProfiles {
 public:
  struct Options {
    std::vector<net::TlsProfile> profiles;  // Besides the built-in ones.
    std::string ca_file;  // Default of the profiles; empty: the system's.
    Duration session_lifetime = std::chrono::hours(2);
    std::shared_ptr<net::TlsSessions> sessions;
  };

  // Reuses the profiles that have not changed since `before` (which may be
  // null), with their sessions. Errors: INVALID_ARGUMENT with profile, key and
  // file.
  static absl::StatusOr<std::shared_ptr<const TlsProfiles>> Create(
      Options options, const TlsProfiles* before);

  // Reloads changed files. If one is invalid, its earlier content stays in use
  // and `*error` says why. Null: nothing has changed.
  std::shared_ptr<const TlsProfiles> Refresh(std::string* error) const;

  // Null: there is no such profile.
  std::shared_ptr<const net::TlsContext> Find(std::string_view name) const;

 private:
  struct Authorities {
    FileStamp stamp;
    std::shared_ptr<const net::TlsAuthorities> loaded;  // Null: see `error`.
    std::string error;
  };
  struct Entry {
    net::TlsProfile profile;  // With the effective ca_file.
    FileStamp cert;
    FileStamp key;
    std::shared_ptr<const net::TlsAuthorities> authorities;
    std::shared_ptr<const net::TlsContext> context;
  };

  explicit TlsProfiles(Options options) : options_(std::move(options)) {}

  // Fills the tables. Returns the errors; faulty profiles are as in `before`,
  // or missing.
  std::string Fill(const TlsProfiles* before);
  std::string FillOne(net::TlsProfile profile, const TlsProfiles* before);
  const Authorities& AuthoritiesFor(const std::string& ca_file,
                                    const TlsProfiles* before);
  const Entry* EntryOf(std::string_view name) const;

  const Options options_;
  std::map<std::string, Authorities> authorities_;  // By file.
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_TLS_PROFILES_H_
