// Keeps the address books of all targets up to date: resolves names again when
// their answers expire, tests suspect addresses, drains addresses that left.
#ifndef HOTLINE_UPSTREAM_ADDRESS_KEEPER_H_
#define HOTLINE_UPSTREAM_ADDRESS_KEEPER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/time.h"
#include "net/loop.h"
#include "pool/types.h"
#include "upstream/address/blocks.h"
#include "upstream/address/book.h"
#include "upstream/address/resolver.h"

namespace hotline::upstream {

// The book and the address that a dial or a connection counts towards. `epoch`
// is 0 if it counts towards none: its address is not a member, because the
// caller chose it, for example.
struct AddressTicket {
  uint64_t epoch = 0;
  IpAddress address;
};

// A target's book exists from its first dial until it has had neither a
// connection nor a dial for kForgetAfter. While it exists, its host is resolved
// again as soon as the last answer expires. Meanwhile, and while DNS fails, the
// known members stay in use, up to kMostStale after the last good answer; a DNS
// failure makes no member SUSPECT.
//
//   AddressKeeper keeper(loop, resolver, config, callbacks);
//   if (!keeper.Know(key, host, now)) keeper.Await(key, host, resume);
//   AddressBook::Plan plan = keeper.Choose(target, random, now, check);
//   AddressTicket ticket = keeper.Dialling(target, plan.order[0]);
//   keeper.Connected(target, ticket, length);   // Or DialFailed, Abandoned.
//   keeper.Established(target, ticket, now);    // Or Broke.
//   keeper.Closed(target, ticket);
//
// Thread-safe.
//
// Invariants:
//   1. No callback runs, and nothing is logged, under the lock.
//   2. A ticket changes only the book that issued it: a book that was forgotten
//      and made anew has another epoch.
//   3. At most kMostTests tests run at a time.
class AddressKeeper {
 public:
  static constexpr Duration kForgetAfter = std::chrono::minutes(5);
  static constexpr Duration kMostStale = std::chrono::hours(1);
  static constexpr Duration kRetryDns = std::chrono::seconds(5);
  static constexpr size_t kMostTargets = 131'072;
  static constexpr int kMostTests = 16;  // At a time.

  // `connecting`: the time of the TCP handshake; 0: unknown.
  using TestDone = absl::AnyInvocable<void(bool passed, std::string why,
                                           Duration connecting)>;
  struct Callbacks {
    // Makes a connection to the address, checks that it works, and closes it.
    // Calls `done` once, on any thread.
    std::function<void(std::shared_ptr<const pool::HostPoolKey> key,
                       const IpAddress& address, TestDone done)>
        test;
    // The egress policy in force for the addresses of a host.
    std::function<AddressBook::EgressCheck(const std::string& host)> egress;
    // Drains the connections of `target` to `address`.
    std::function<void(const std::string& target, const IpAddress& address)>
        drain;
    // Reports an event, but for the members of the first answer. May be null.
    std::function<void(const std::string& target, const AddressEvent& event)>
        changed = nullptr;
  };

  // `loop` is the resolver's; both must outlive the keeper.
  AddressKeeper(net::Loop* loop, Resolver* resolver,
                const AddressBookConfig& config, Callbacks callbacks);
  ~AddressKeeper();

  void Configure(const AddressBookConfig& config);

  // --- For a dial, in this order ---

  // Whether addresses of `host` are known: OK, an error, or nothing while the
  // answer is outstanding (see Await). `host` is what connections of the key's
  // target resolve: the target's own host, or its proxy's. A change of host
  // starts a new book. Tests use the options of the last key.
  std::optional<absl::Status> Know(
      const std::shared_ptr<const pool::HostPoolKey>& key,
      const std::string& host, Instant now);
  // Calls `told` once, on any thread, when there is an answer.
  void Await(const std::shared_ptr<const pool::HostPoolKey>& key,
             const std::string& host,
             absl::AnyInvocable<void(absl::Status)> done);
  AddressBook::Plan Choose(const std::string& target, uint64_t random,
                           Instant now, const AddressBook::EgressCheck& check);

  // --- The dial's outcome: see AddressBook ---

  AddressTicket Dialling(const std::string& target, const IpAddress& address);
  void Connected(const std::string& target, const AddressTicket& ticket,
                 Duration length);
  void DialFailed(const std::string& target, const AddressTicket& ticket,
                  std::string_view why, Instant now);
  void Abandoned(const std::string& target, const AddressTicket& ticket,
                 Duration waited, Duration head_start, Instant now);
  void Established(const std::string& target, const AddressTicket& ticket,
                   Instant now);
  void Broke(const std::string& target, const AddressTicket& ticket,
             std::string_view why, Instant now);
  void Answered(const std::string& target, const AddressTicket& ticket);
  void Closed(const std::string& target, const AddressTicket& ticket);

  // See AddressBook::Cool.
  bool Cool(const std::string& target, const IpAddress& address, Instant until,
            std::string_view why, Instant now);

  // Takes addresses out of service for dials from now on, and their members at
  // once; connections are left to the caller. A block that ends by its time is
  // noticed by the next dial, or by Recheck. False: there are too many.
  bool Block(const AddressBlock& block, Instant now);
  // False: there is no such block.
  bool Unblock(const AddressBlock& block, Instant now);
  const AddressBlocks& blocks() const { return blocks_; }
  // Checks egress and blocks again for the members of `target`; empty: of all.
  void Recheck(const std::string& target);

  // Empty: the target is unknown.
  std::vector<AddressRow> Rows(const std::string& target) const;

  // Stops resolving and testing. No callback starts afterwards.
  void Shutdown();

 private:
  struct Entry {
    explicit Entry(const AddressBookConfig& config) : book(config) {}
    AddressBook book;
    uint64_t epoch = 0;
    std::shared_ptr<const pool::HostPoolKey> key;
    std::string host;
    Instant fresh_until{};  // When the last answer expires.
    Instant usable_until{};
    bool resolving = false;
    Instant used{};  // By a dial.
    Instant armed = kNever;
    net::Loop::Deadline timer;  // For `armed`.
    bool failing = false;       // The last resolution failed.
    std::vector<absl::AnyInvocable<void(absl::Status)>> waiting;
  };

  // Work to do after the lock is released; see Do.
  struct Work {
    explicit Work(std::string target_in) : target(std::move(target_in)) {}
    std::string target;
    std::string host;
    uint64_t epoch = 0;
    AddressEvents events;
    bool first = false;  // The events are those of the first answer.
    std::optional<IpAddress> test;
    std::shared_ptr<const pool::HostPoolKey> key;
    bool resolve = false;
    Instant arm = kNever;
    absl::Status status;
    std::vector<absl::AnyInvocable<void(absl::Status)>> waiting;
  };

  Entry* FindLocked(const std::string& target) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Entry* FindLocked(const std::string& target,
                    const AddressTicket& ticket) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Entry* MakeLocked(const std::shared_ptr<const pool::HostPoolKey>& key,
                    const std::string& host, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MakeRoomLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Adds to `work` everything of `entry` that is due, and the next time to
  // check.
  void CollectDueLocked(Entry* entry, Instant now, Work* work)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Runs `change` on the ticket's book, then does what is due.
  template <typename Change>
  void Apply(const std::string& target, const AddressTicket& ticket,
             Instant now, Change&& change);
  void Do(Work work);
  void OnTimer(const std::string& target, uint64_t epoch, Instant armed);
  void OnAnswer(const std::string& target, const std::string& host,
                uint64_t epoch, Resolver::Result result);
  void StartTest(const Work& work);
  void Report(const Work& work);

  // Egress, and then the blocks.
  AddressBook::EgressCheck CheckOf(const std::string& target,
                                   const std::string& host) const;

  net::Loop* const loop_;
  Resolver* const resolver_;
  const Callbacks callbacks_;
  AddressBlocks blocks_;

  mutable Mutex mu_;
  AddressBookConfig config_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, std::unique_ptr<Entry>> entries_
      ABSL_GUARDED_BY(mu_);
  uint64_t last_epoch_ ABSL_GUARDED_BY(mu_) = 0;
  int tests_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_KEEPER_H_
