// The address books of all targets, kept up to date: names are resolved again
// when their time is up, doubtful addresses tested, those that left drained.
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
#include "upstream/address/book.h"
#include "upstream/address/resolver.h"

namespace hotline::upstream {

// Says where a dial or a connection counts. Of one that counts nowhere (its
// address is no member: pinned by the caller, say), `epoch` is 0.
struct AddressTicket {
  uint64_t epoch = 0;
  IpAddress address;
};

// A target's book is there from its first dial until it has had no connection
// and no dial for kForgetAfter. As long as it is there its host is resolved
// again as soon as the answer's time is up; meanwhile, and while DNS fails, the
// members that are known go on to be used, up to kMostStale after the last good
// answer. A failing DNS makes no member SUSPECT.
//
// Thread-safe. Nothing is called, and nothing logged, under the lock.
class AddressKeeper {
 public:
  static constexpr Duration kForgetAfter = std::chrono::minutes(5);
  static constexpr Duration kMostStale = std::chrono::hours(1);
  static constexpr Duration kRetryDns = std::chrono::seconds(5);
  static constexpr size_t kMostTargets = 131'072;
  static constexpr int kMostTests = 16;  // At the same time.

  // `connecting`: how long TCP took; 0: not known.
  using TestDone = absl::AnyInvocable<void(bool passed, std::string why,
                                           Duration connecting)>;
  struct World {
    // Makes a connection to the address, looks whether it works, and closes it.
    // `done` is told once, on any thread.
    std::function<void(std::shared_ptr<const pool::HostPoolKey> key,
                       const IpAddress& address, TestDone done)>
        test;
    // What egress says now of the addresses of a host.
    std::function<AddressBook::EgressCheck(const std::string& host)> egress;
    // Lets connections of `target` to `address` serve nobody new.
    std::function<void(const std::string& target, const IpAddress& address)>
        drain;
  };

  // `loop` is the resolver's; both must outlive the keeper.
  AddressKeeper(net::Loop* loop, Resolver* resolver,
                const AddressBookConfig& config, World world);
  ~AddressKeeper();

  void Configure(const AddressBookConfig& config);

  // --- For a dial, in this order ---

  // Whether addresses of `host` are known: yes (OK), no (why), or not yet
  // (nothing: see Await). `host` is where the connections of the key's target
  // lead: its own, or a proxy's. Another one than before begins a new book.
  // Tests are made with the options of the last key.
  std::optional<absl::Status> Know(
      const std::shared_ptr<const pool::HostPoolKey>& key,
      const std::string& host, Instant now);
  // Tells once, on any thread, when there is an answer.
  void Await(const std::shared_ptr<const pool::HostPoolKey>& key,
             const std::string& host,
             absl::AnyInvocable<void(absl::Status)> told);
  AddressBook::Plan Choose(const std::string& target, uint64_t random,
                           Instant now, const AddressBook::EgressCheck& check);

  // --- What became of it: see AddressBook ---

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

  // Empty: the target is not known.
  std::vector<AddressRow> Rows(const std::string& target) const;

  // Nothing is done, and nobody told anything, any more.
  void Shutdown();

 private:
  struct Entry {
    explicit Entry(const AddressBookConfig& config) : book(config) {}
    AddressBook book;
    uint64_t epoch = 0;
    std::shared_ptr<const pool::HostPoolKey> key;
    std::string host;
    Instant fresh_until{};  // Of the last answer; then it is asked again.
    Instant usable_until{};
    bool asking = false;
    Instant used{};
    Instant armed = kNever;
    net::Loop::Deadline timer;  // For `armed`.
    bool failing = false;       // DNS, the last time.
    std::vector<absl::AnyInvocable<void(absl::Status)>> waiting;
  };

  // What is to be done once the lock is free.
  struct Work {
    explicit Work(std::string target_in) : target(std::move(target_in)) {}
    std::string target;
    std::string host;
    uint64_t epoch = 0;
    AddressEvents events;
    bool first = false;   // The events are those of the first answer.
    bool failed = false;  // DNS, after it had answered before.
    std::optional<IpAddress> test;
    std::shared_ptr<const pool::HostPoolKey> key;
    bool ask = false;
    Instant arm = kNever;
    absl::Status told;
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
  // What has become due of `entry`, and when to look again.
  void SettleLocked(Entry* entry, Instant now, Work* work)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Runs `change` on the book that the ticket is for, and settles.
  template <typename Change>
  void Apply(const std::string& target, const AddressTicket& ticket,
             Instant now, Change&& change);
  void Do(Work work);
  void OnTimer(const std::string& target, uint64_t epoch, Instant armed);
  void OnAnswer(const std::string& target, const std::string& host,
                uint64_t epoch, Resolver::Result result);
  void StartTest(const Work& work);
  static void Log(const Work& work);

  net::Loop* const loop_;
  Resolver* const resolver_;
  const World world_;

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
