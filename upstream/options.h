// Everything about the upstream side that can be configured; filled by config.
//
// Plain values; Upstream::CheckOptions says whether they can be used.
#ifndef HOTLINE_UPSTREAM_OPTIONS_H_
#define HOTLINE_UPSTREAM_OPTIONS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/time.h"
#include "net/tls/tls_profile.h"

namespace hotline::upstream {

// Which addresses may be connected to; see egress.h.
struct EgressRules {
  bool default_public = true;  // False: only what `allow` names.
  std::vector<std::string> allow;
  std::vector<std::string> deny;

  friend bool operator==(const EgressRules&, const EgressRules&) = default;
};

// A request made to see whether a connection works.
struct Check {
  std::string path;  // Empty: no such check.
  std::string method = "HEAD";
  // 0 and 0: any complete answer will do.
  int min_status = 200;
  int max_status = 399;

  friend bool operator==(const Check&, const Check&) = default;
};

// How connections to one target are made and checked.
struct TargetPolicy {
  // An HTTP proxy to go through by CONNECT, "http://host:port"; empty: none.
  std::string proxy;

  Check validate;  // Each new one (R10).
  Check probe{.path = "/", .min_status = 0, .max_status = 0};
  bool probe_tcp_only = false;
  // `probe` is somebody's wish: on HTTP/2, too, where a PING would do.
  bool probe_is_asked_for = false;
  // One of them for each new connection, in turn; none: Options::tls_profile.
  std::vector<std::string> tls_profiles;

  friend bool operator==(const TargetPolicy&, const TargetPolicy&) = default;
};

struct AddressBookConfig {
  // So many failures in a row eject an address, the first time for eject_base,
  // the n-th time for n times as long, up to eject_max.
  int eject_after = 5;
  Duration eject_base = std::chrono::seconds(30);
  Duration eject_max = std::chrono::seconds(300);
  // How long an address must have been away from DNS before it is drained.
  Duration grace = std::chrono::seconds(60);

  friend bool operator==(const AddressBookConfig&,
                         const AddressBookConfig&) = default;
};

struct Options {
  int loops = 1;
  // Where a TLS profile names none. Empty: the system's authorities.
  std::string ca_file;
  // Beside the built-in ones; names must differ.
  std::vector<net::TlsProfile> tls_profiles;
  std::string tls_profile = "default";  // For targets that name none.
  int64_t max_tls_sessions = 1024;      // Kept to be resumed; 0: none.
  Duration tls_session_lifetime = std::chrono::hours(2);
  Duration connect_timeout = std::chrono::seconds(30);
  Duration tcp_timeout = std::chrono::seconds(5);
  Duration tls_timeout = std::chrono::seconds(10);
  Duration probe_timeout = std::chrono::seconds(10);
  // An HTTP/2 peer that owes answers and says nothing for `ping_after` is asked
  // whether it lives, and given up when `ping_timeout` later it has not said
  // so.
  Duration ping_after = std::chrono::seconds(20);
  Duration ping_timeout = std::chrono::seconds(5);
  int64_t max_header_bytes = 65536;
  // Between attempts at the addresses of one host, the one before still being
  // under way.
  Duration attempt_stagger = std::chrono::milliseconds(250);
  // Local addresses, taken in turn where the caller names none. Empty: the
  // system's choice.
  std::vector<std::string> source_addresses;
  AddressBookConfig addresses;
  std::vector<std::string> dns_servers;
  EgressRules egress;
  // Asked at each dial and probe. Called from any thread.
  std::function<TargetPolicy(const std::string& target)> target_policy;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_OPTIONS_H_
