// DNS queries for one record type at a time: c-ares on an event loop, following
// changes of the system's configuration.
#ifndef HOTLINE_UPSTREAM_ADDRESS_RESOLVER_CHANNEL_H_
#define HOTLINE_UPSTREAM_ADDRESS_RESOLVER_CHANNEL_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/file_stamp.h"
#include "base/time.h"
#include "upstream/address/resolver.h"

struct ares_channeldata;

namespace hotline::upstream {

// Confined to one loop.
class ResolverChannel {
 public:
  enum class Family : uint8_t { kV4, kV6 };

  struct Answer {
    enum class Kind : uint8_t {
      kAddresses,
      kNone,    // The name exists, without addresses of this family.
      kNoName,  // NXDOMAIN.
      kFailed,  // No answer, or a server failure.
    };
    Kind kind = Kind::kFailed;
    Addresses addresses;
    Duration ttl{0};
    std::string why;  // Unless there are addresses.
  };
  using Done = absl::AnyInvocable<void(Answer)>;

  // `servers` empty: the system's. `replaced` is called when a server did not
  // answer in time and the configuration turned out to have changed.
  ResolverChannel(boost::asio::io_context* io, std::vector<std::string> servers,
                  ResolvConf system, absl::AnyInvocable<void()> replaced);
  ~ResolverChannel();

  // INVALID_ARGUMENT: a server is invalid.
  absl::Status Init();

  // Reads the system's configuration again if it has changed. True: it had, and
  // outstanding queries will not be answered. Must not be called from a Done.
  bool Refresh();

  // Queries the addresses of `name`, without the search list. Calls `done` at
  // most once, possibly from inside; never after the channel or its
  // configuration is gone.
  void Ask(const std::string& name, Family family, Done done);

  // The addresses of `host` (without a trailing dot) in the hosts file, if the
  // system uses it. It comes before DNS, or after.
  Addresses Hosts(const std::string& host);
  bool hosts_come_first() const { return hosts_come_first_; }

  // The names to query for `host`, in order, by the search list and ndots of
  // resolv.conf(5); an absolute name yields itself. Empty if the system does
  // not use DNS.
  std::vector<std::string> Candidates(const std::string& host) const;

 private:
  struct Watched;

  absl::StatusOr<ares_channeldata*> Open() const;
  void Adopt(ares_channeldata* channel);

  static void OnSocketState(void* self, int fd, int read, int write);
  void Watch(int fd, bool read, bool write);
  void Await(int fd, const std::shared_ptr<Watched>& watched);
  void Process(const std::shared_ptr<Watched>& watched, int readable,
               int writable);
  void SetTimer();

  boost::asio::io_context& io_;
  const std::vector<std::string> servers_;
  const ResolvConf system_;
  absl::AnyInvocable<void()> replaced_;
  boost::asio::steady_timer timer_;
  ares_channeldata* channel_ = nullptr;
  ares_channeldata* hosts_ = nullptr;  // Reads the hosts file only.
  // The system's configuration.
  FileStamp version_;
  std::vector<std::string> domains_;
  int ndots_ = 1;
  bool hosts_count_ = true;
  bool dns_counts_ = true;
  bool hosts_come_first_ = true;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  absl::flat_hash_map<int, std::shared_ptr<Watched>> watched_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_RESOLVER_CHANNEL_H_
