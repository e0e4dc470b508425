// The options of the upstream side; filled by config.
//
//   Options options{.loops = 2, .tls_profile = "modern"};
//   if (auto status = Upstream::CheckOptions(options); !status.ok()) ...
//
// Plain values.
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

// The addresses that may be connected to; see egress.h.
struct EgressRules {
  bool default_public = true;  // False: only addresses in `allow`.
  std::vector<std::string> allow;
  std::vector<std::string> deny;

  friend bool operator==(const EgressRules&, const EgressRules&) = default;
};

// A request that checks whether a connection works.
struct Check {
  std::string path;  // Empty: no check.
  std::string method = "HEAD";
  // 0 and 0: any complete answer passes.
  int min_status = 200;
  int max_status = 399;

  friend bool operator==(const Check&, const Check&) = default;
};

// How connections to one target are made and checked.
struct TargetPolicy {
  // "http://host:port" of an HTTP proxy to connect through; empty: none.
  std::string proxy;

  Check validate;  // Of each new connection.
  Check probe{.path = "/", .min_status = 0, .max_status = 0};
  bool probe_tcp_only = false;
  // `probe` is configured; it then replaces the PING on HTTP/2.
  bool probe_is_asked_for = false;
  // Taken in turn by new connections; empty: Options::tls_profile.
  std::vector<std::string> tls_profiles;

  friend bool operator==(const TargetPolicy&, const TargetPolicy&) = default;
};

struct AddressBookConfig {
  // This many failures in a row eject an address: the first time for
  // eject_base, the n-th time for n times as long, up to eject_max.
  int eject_after = 5;
  Duration eject_base = std::chrono::seconds(30);
  Duration eject_max = std::chrono::seconds(300);
  // How long an address must be missing from DNS before it is drained.
  Duration grace = std::chrono::seconds(60);

  friend bool operator==(const AddressBookConfig&,
                         const AddressBookConfig&) = default;
};

struct Options {
  int loops = 1;
  // For TLS profiles without a ca_file. Empty: the system's authorities.
  std::string ca_file;
  // In addition to the built-in ones; names must be unique.
  std::vector<net::TlsProfile> tls_profiles;
  std::string tls_profile = "default";  // For targets without one.
  int64_t max_tls_sessions = 1024;      // Kept for resumption; 0: none.
  Duration tls_session_lifetime = std::chrono::hours(2);
  Duration connect_timeout = std::chrono::seconds(30);
  Duration tcp_timeout = std::chrono::seconds(5);
  Duration tls_timeout = std::chrono::seconds(10);
  Duration probe_timeout = std::chrono::seconds(10);
  // An HTTP/2 peer that owes an answer and is silent for `ping_after` gets a
  // PING; without an acknowledgement within `ping_timeout` its connection is
  // closed.
  Duration ping_after = std::chrono::seconds(20);
  Duration ping_timeout = std::chrono::seconds(5);
  int64_t max_header_bytes = 65536;
  // The delay between connection attempts to the addresses of one host while
  // the previous attempt is under way.
  Duration attempt_stagger = std::chrono::milliseconds(250);
  // Local addresses, taken in turn unless the caller sets one. Empty: the
  // system chooses.
  std::vector<std::string> source_addresses;
  AddressBookConfig addresses;
  std::vector<std::string> dns_servers;
  EgressRules egress;
  // Called for each dial and probe, from any thread.
  std::function<TargetPolicy(const std::string& target)> target_policy;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_OPTIONS_H_
