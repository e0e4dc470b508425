#include "upstream/address/keeper.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace hotline::upstream {

AddressKeeper::AddressKeeper(net::Loop* loop, Resolver* resolver,
                             const AddressBookConfig& config,
                             Callbacks callbacks)
    : loop_(loop),
      resolver_(resolver),
      callbacks_(std::move(callbacks)),
      config_(config) {}

AddressKeeper::~AddressKeeper() = default;

void AddressKeeper::Configure(const AddressBookConfig& config) {
  MutexLock lock(&mu_);
  config_ = config;
  for (const auto& [target, entry] : entries_) entry->book.Configure(config);
}

void AddressKeeper::Shutdown() {
  MutexLock lock(&mu_);
  stopped_ = true;
}

// Entries.

AddressKeeper::Entry* AddressKeeper::FindLocked(
    const std::string& target) const {
  const auto found = entries_.find(target);
  return found == entries_.end() ? nullptr : found->second.get();
}

AddressKeeper::Entry* AddressKeeper::FindLocked(
    const std::string& target, const AddressTicket& ticket) const {
  if (ticket.epoch == 0) return nullptr;
  Entry* const entry = FindLocked(target);
  return entry != nullptr && entry->epoch == ticket.epoch ? entry : nullptr;
}

AddressKeeper::Entry* AddressKeeper::MakeLocked(
    const std::shared_ptr<const pool::HostPoolKey>& key,
    const std::string& host, Instant now) {
  const std::string& target = key->target;
  Entry* entry = FindLocked(target);
  if (entry == nullptr || entry->host != host) {
    if (entry == nullptr) MakeRoomLocked(now);
    auto made = std::make_unique<Entry>(config_);
    made->epoch = ++last_epoch_;
    made->host = host;
    entry = made.get();
    entries_.insert_or_assign(target, std::move(made));
  }
  entry->key = key;
  entry->used = now;
  return entry;
}

void AddressKeeper::MakeRoomLocked(Instant now) {
  if (entries_.size() < kMostTargets) return;
  absl::erase_if(entries_, [now](const auto& item) {
    const Entry& entry = *item.second;
    return !entry.book.in_use() && entry.waiting.empty() && entry.used < now;
  });
}

void AddressKeeper::CollectDueLocked(Entry* entry, Instant now, Work* work) {
  if (stopped_) return;
  work->host = entry->host;
  work->epoch = entry->epoch;
  entry->book.Tick(now, &work->events);
  if (tests_ < kMostTests) {
    work->test = entry->book.NextTest(now);
    if (work->test) {
      work->key = entry->key;
      ++tests_;
    }
  }
  if (!entry->resolving && (entry->fresh_until <= now)) {
    work->resolve = entry->resolving = true;
  }
  Instant due = entry->book.NextDue();
  // One address is tested per interval; another one that is due waits.
  if (due <= now) due = now + AddressBook::kTestInterval;
  if (!entry->resolving) due = std::min(due, entry->fresh_until);
  if (!entry->book.in_use()) due = std::min(due, entry->used + kForgetAfter);
  if (due < entry->armed) work->arm = entry->armed = due;
}

void AddressKeeper::Do(Work work) {
  Report(work);
  for (const AddressEvent& event : work.events) {
    // An address that cools down gets no requests on idle connections either.
    if (event.kind == AddressEvent::Kind::kDrained ||
        event.kind == AddressEvent::Kind::kCooled) {
      callbacks_.drain(work.target, event.address);
    }
  }
  for (auto& done : work.waiting) done(work.status);
  if (work.arm != kNever) {
    net::Loop::Deadline timer = loop_->RunAt(
        work.arm, [this, target = work.target, epoch = work.epoch,
                   armed = work.arm] { OnTimer(target, epoch, armed); });
    {
      MutexLock lock(&mu_);
      Entry* const entry = FindLocked(work.target, {work.epoch, {}});
      if (entry != nullptr && entry->armed == work.arm) {
        std::swap(timer, entry->timer);
      }
    }
    // The replaced timer, which has run or is no longer needed.
    loop_->Cancel(timer);
  }
  if (work.resolve) {
    resolver_->Resolve(work.host,
                       [this, target = work.target, host = work.host,
                        epoch = work.epoch](Resolver::Result result) {
                         OnAnswer(target, host, epoch, std::move(result));
                       });
  }
  if (work.test) StartTest(work);
}

void AddressKeeper::Report(const Work& work) {
  for (const AddressEvent& event : work.events) {
    using Kind = AddressEvent::Kind;
    if (event.kind == Kind::kJoined && work.first) continue;
    const std::string address = event.address.ToString();
    switch (event.kind) {
      case Kind::kEjected:
      case Kind::kCooled:
        HOTLINE_LOG(kWarning, "address out of service",
                    {{"event", ToString(event.kind)},
                     {"target", work.target},
                     {"address", address},
                     {"for", event.length},
                     {"why", event.why}});
        break;
      case Kind::kDnsFails:
        HOTLINE_LOG(kWarning, "DNS fails: the known addresses stay in use",
                    {{"target", work.target}, {"host", work.host}});
        break;
      case Kind::kDnsAnswers:
        HOTLINE_LOG(kInfo, "DNS answers again",
                    {{"target", work.target}, {"host", work.host}});
        break;
      case Kind::kTestPassed:
      case Kind::kTestFailed:
        HOTLINE_LOG(kDebug, "address tested",
                    {{"event", ToString(event.kind)},
                     {"target", work.target},
                     {"address", address},
                     {"why", event.why}});
        break;
      default:
        HOTLINE_LOG(kInfo, "address changed",
                    {{"event", ToString(event.kind)},
                     {"target", work.target},
                     {"address", address},
                     {"why", event.why}});
    }
    if (callbacks_.changed) callbacks_.changed(work.target, event);
  }
}

void AddressKeeper::OnTimer(const std::string& target, uint64_t epoch,
                            Instant armed) {
  const Instant now = MonotonicNow();
  Work work(target);
  {
    MutexLock lock(&mu_);
    Entry* const entry = FindLocked(target, {epoch, {}});
    // Stale: another timer was armed since.
    if (entry == nullptr || entry->armed != armed) return;
    entry->armed = kNever;
    if (!entry->book.in_use() && entry->waiting.empty() && !entry->resolving &&
        entry->used + kForgetAfter <= now) {
      entries_.erase(target);
      return;
    }
    CollectDueLocked(entry, now, &work);
  }
  Do(std::move(work));
}

// Names.

std::optional<absl::Status> AddressKeeper::Know(
    const std::shared_ptr<const pool::HostPoolKey>& key,
    const std::string& host, Instant now) {
  const std::string& target = key->target;
  {
    MutexLock lock(&mu_);
    Entry* const entry = FindLocked(target);
    if (entry != nullptr && entry->host == host && !entry->book.empty() &&
        now < entry->usable_until) {
      entry->key = key;
      entry->used = now;
      return absl::OkStatus();
    }
  }
  auto known = resolver_->Lookup(host, now);
  if (!known) return std::nullopt;
  if (!known->ok()) return known->status();
  uint64_t epoch = 0;
  {
    MutexLock lock(&mu_);
    epoch = MakeLocked(key, host, now)->epoch;
  }
  OnAnswer(target, host, epoch, *std::move(known));
  return absl::OkStatus();
}

void AddressKeeper::Await(const std::shared_ptr<const pool::HostPoolKey>& key,
                          const std::string& host,
                          absl::AnyInvocable<void(absl::Status)> done) {
  const Instant now = MonotonicNow();
  Work work(key->target);
  {
    MutexLock lock(&mu_);
    Entry* const entry = MakeLocked(key, host, now);
    entry->waiting.push_back(std::move(done));
    entry->fresh_until = std::min(entry->fresh_until, now);
    CollectDueLocked(entry, now, &work);
  }
  Do(std::move(work));
}

void AddressKeeper::OnAnswer(const std::string& target, const std::string& host,
                             uint64_t epoch, Resolver::Result result) {
  const Instant now = MonotonicNow();
  const AddressBook::EgressCheck check = CheckOf(target, host);
  Work work(target);
  {
    MutexLock lock(&mu_);
    Entry* const entry = FindLocked(target, {epoch, {}});
    if (entry == nullptr || stopped_) return;
    entry->resolving = false;
    work.waiting.swap(entry->waiting);
    work.status = result.status();
    if (result.ok()) {
      work.first = entry->book.empty();
      if (entry->failing) {
        work.events.push_back({.kind = AddressEvent::Kind::kDnsAnswers,
                               .address = {},
                               .why = ""});
      }
      entry->book.Refresh(result->addresses, check, now, &work.events,
                          result->known);
      entry->fresh_until = result->until;
      entry->usable_until = SaturatingAdd(result->until, kMostStale);
    } else if (entry->book.empty()) {
      // The resolver caches the failure.
      entries_.erase(target);
    } else {
      if (!entry->failing) {
        work.events.push_back({.kind = AddressEvent::Kind::kDnsFails,
                               .address = {},
                               .why = std::string(result.status().message())});
      }
      entry->fresh_until = now + kRetryDns;
      if (now < entry->usable_until) work.status = absl::OkStatus();
    }
    if (Entry* const kept = FindLocked(target)) {
      kept->failing = !result.ok();
      CollectDueLocked(kept, now, &work);
    }
  }
  Do(std::move(work));
}

AddressBook::Plan AddressKeeper::Choose(const std::string& target,
                                        uint64_t random, Instant now,
                                        const AddressBook::EgressCheck& check) {
  Work work(target);
  AddressBook::Plan plan;
  {
    MutexLock lock(&mu_);
    Entry* const entry = FindLocked(target);
    if (entry == nullptr) return plan;
    plan = entry->book.Choose(random, now, check, &work.events);
    CollectDueLocked(entry, now, &work);
  }
  Do(std::move(work));
  return plan;
}

// Outcomes.

template <typename Change>
void AddressKeeper::Apply(const std::string& target,
                          const AddressTicket& ticket, Instant now,
                          Change&& change) {
  if (ticket.epoch == 0) return;
  Work work(target);
  {
    MutexLock lock(&mu_);
    Entry* const entry = FindLocked(target, ticket);
    if (entry == nullptr) return;
    change(&entry->book, &work.events);
    CollectDueLocked(entry, now, &work);
  }
  Do(std::move(work));
}

AddressTicket AddressKeeper::Dialling(const std::string& target,
                                      const IpAddress& address) {
  MutexLock lock(&mu_);
  Entry* const entry = FindLocked(target);
  if (entry == nullptr || !entry->book.Dialling(address)) return {};
  return {entry->epoch, address};
}

void AddressKeeper::Connected(const std::string& target,
                              const AddressTicket& ticket, Duration length) {
  MutexLock lock(&mu_);
  Entry* const entry = FindLocked(target, ticket);
  if (entry != nullptr) entry->book.Connected(ticket.address, length);
}

void AddressKeeper::DialFailed(const std::string& target,
                               const AddressTicket& ticket,
                               std::string_view why, Instant now) {
  Apply(target, ticket, now, [&](AddressBook* book, AddressEvents* events) {
    book->DialFailed(ticket.address, why, now, events);
  });
}

void AddressKeeper::Abandoned(const std::string& target,
                              const AddressTicket& ticket, Duration waited,
                              Duration head_start, Instant now) {
  Apply(target, ticket, now, [&](AddressBook* book, AddressEvents*) {
    book->Abandoned(ticket.address, waited, head_start, now);
  });
}

void AddressKeeper::Established(const std::string& target,
                                const AddressTicket& ticket, Instant now) {
  Apply(target, ticket, now, [&](AddressBook* book, AddressEvents* events) {
    book->Established(ticket.address, now, events);
  });
}

void AddressKeeper::Broke(const std::string& target,
                          const AddressTicket& ticket, std::string_view why,
                          Instant now) {
  Apply(target, ticket, now, [&](AddressBook* book, AddressEvents* events) {
    book->Broke(ticket.address, why, now, events);
  });
}

void AddressKeeper::Answered(const std::string& target,
                             const AddressTicket& ticket) {
  MutexLock lock(&mu_);
  Entry* const entry = FindLocked(target, ticket);
  if (entry != nullptr) entry->book.Answered(ticket.address);
}

void AddressKeeper::Closed(const std::string& target,
                           const AddressTicket& ticket) {
  const Instant now = MonotonicNow();
  Apply(target, ticket, now, [&](AddressBook* book, AddressEvents*) {
    book->Closed(ticket.address);
  });
}

bool AddressKeeper::Cool(const std::string& target, const IpAddress& address,
                         Instant until, std::string_view why, Instant now) {
  Work work(target);
  bool cooled = false;
  {
    MutexLock lock(&mu_);
    Entry* const entry = FindLocked(target);
    if (entry == nullptr) return false;
    cooled = entry->book.Cool(address, until, why, now, &work.events);
    CollectDueLocked(entry, now, &work);
  }
  Do(std::move(work));
  return cooled;
}

// Blocks.

AddressBook::EgressCheck AddressKeeper::CheckOf(const std::string& target,
                                                const std::string& host) const {
  return [this, target,
          egress = callbacks_.egress(host)](const IpAddress& address) {
    std::string rule = egress(address);
    if (rule.empty()) rule = blocks_.Why(target, address, MonotonicNow());
    return rule;
  };
}

bool AddressKeeper::Block(const AddressBlock& block, Instant now) {
  if (!blocks_.Add(block, now)) return false;
  Recheck(block.target);
  return true;
}

bool AddressKeeper::Unblock(const AddressBlock& block, Instant now) {
  if (!blocks_.Remove(block, now)) return false;
  Recheck(block.target);
  return true;
}

void AddressKeeper::Recheck(const std::string& target) {
  struct Book {
    std::string target;
    std::string host;
    uint64_t epoch;
  };
  std::vector<Book> books;
  {
    MutexLock lock(&mu_);
    for (const auto& [name, entry] : entries_) {
      if (!target.empty() && name != target) continue;
      books.push_back({name, entry->host, entry->epoch});
    }
  }
  for (const Book& book : books) {
    const Instant now = MonotonicNow();
    const AddressBook::EgressCheck check = CheckOf(book.target, book.host);
    Apply(book.target, {book.epoch, {}}, now,
          [&](AddressBook* members, AddressEvents* events) {
            members->Recheck(check, now, events);
          });
  }
}

void AddressKeeper::StartTest(const Work& work) {
  callbacks_.test(
      work.key, *work.test,
      [this, target = work.target,
       ticket = AddressTicket{work.epoch, *work.test}](
          bool passed, std::string why, Duration connecting) {
        {
          MutexLock lock(&mu_);
          --tests_;
        }
        const Instant now = MonotonicNow();
        Apply(target, ticket, now,
              [&](AddressBook* book, AddressEvents* events) {
                using Kind = AddressEvent::Kind;
                events->push_back(
                    {.kind = passed ? Kind::kTestPassed : Kind::kTestFailed,
                     .address = ticket.address,
                     .why = why});
                book->Tested(ticket.address, passed, why, now, events,
                             connecting);
              });
      });
}

std::vector<AddressRow> AddressKeeper::Rows(const std::string& target) const {
  MutexLock lock(&mu_);
  const Entry* const entry = FindLocked(target);
  return entry == nullptr ? std::vector<AddressRow>() : entry->book.Rows();
}

}  // namespace hotline::upstream
