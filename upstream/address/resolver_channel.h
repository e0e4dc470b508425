// Questions to DNS servers, one type of record at a time: c-ares on an event
// loop, configured as the system says, also when that changes.
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

// On one loop only.
class ResolverChannel {
 public:
  enum class Family : uint8_t { kV4, kV6 };

  struct Answer {
    enum class Kind : uint8_t {
      kAddresses,
      kNone,    // The name exists, without addresses of this family.
      kNoName,  // The name does not exist, as this server says.
      kFailed,  // No answer, or one that says nothing.
    };
    Kind kind = Kind::kFailed;
    Addresses addresses;
    Duration ttl{0};
    std::string why;  // Unless there are addresses.
  };
  using Done = absl::AnyInvocable<void(Answer)>;

  // `servers` empty: the system's. `replaced` is called when the configuration
  // has changed after a server did not answer in time: Refresh said so.
  ResolverChannel(boost::asio::io_context* io, std::vector<std::string> servers,
                  ResolvConf system, absl::AnyInvocable<void()> replaced);
  ~ResolverChannel();

  // INVALID_ARGUMENT: a server does not parse.
  absl::Status Init();

  // Reads the system's configuration anew if it has changed. True: it had, and
  // no question asked by now will be answered. Not from inside a Done.
  bool Refresh();

  // Asks for the addresses of `name`, which is taken as it is. `done` is called
  // at most once, maybe from inside: not after the end of the channel, or of
  // its configuration.
  void Ask(const std::string& name, Family family, Done done);

  // What the hosts file, where it counts, says of `host`, without a dot at its
  // end; empty: nothing. It comes before DNS, or after it.
  Addresses Hosts(const std::string& host);
  bool hosts_come_first() const { return hosts_come_first_; }

  // The names that `host` may stand for, in the order in which to ask for them,
  // as resolv.conf(5) has it: with a dot at its end itself alone. Empty where
  // the system asks no DNS.
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
  ares_channeldata* hosts_ = nullptr;  // Looks into the file, and nowhere else.
  // Of the system's configuration.
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
