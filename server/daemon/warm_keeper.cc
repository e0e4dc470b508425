#include "server/daemon/warm_keeper.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace hotline::server {
namespace {

// How often floors are checked: while one is not reached, and otherwise.
constexpr Duration kCheckSoon = std::chrono::milliseconds(50);
constexpr Duration kCheck = std::chrono::seconds(1);

}  // namespace

class WarmKeeper::Impl : public std::enable_shared_from_this<Impl> {
 public:
  explicit Impl(Hooks hooks) : hooks_(std::move(hooks)) {}

  void Configure(const Settings& settings);
  void Start(Instant now, const std::string* handed);
  void StartHealth() { CheckFloors(); }
  std::vector<std::string> NotReady() const;
  std::vector<std::string> NotWarm() const;
  std::string CurrentSet(Instant now) const;
  Rewarming rewarming() const {
    MutexLock lock(&mu_);
    return rewarming_;
  }
  void Save(Instant now, bool at_once);
  void StartDrain();
  void Stop() {
    MutexLock lock(&mu_);
    stopped_ = true;
  }

 private:
  struct Floor {
    bool awaited = false;   // Readiness waits for it to be reached once.
    bool reported = false;  // Its health has been set, to `serving`.
    bool serving = false;
  };

  // The entries of the handed set or of the file; none with a log line.
  std::vector<WarmEntry> LoadEntries(const std::string* handed) const;
  void BeginRewarming(std::vector<WarmEntry> entries, Instant now);
  void NoteRewarming() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    rewarming_ = {rewarmer_->wanted() - rewarmer_->missing(),
                  rewarmer_->missing(), rewarmer_->done()};
  }
  void StepRewarming();
  void CheckFloors();

  const Hooks hooks_;
  mutable Mutex mu_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, Floor> floors_ ABSL_GUARDED_BY(mu_);
  bool redialling_ ABSL_GUARDED_BY(mu_) = false;  // The warm set.
  bool rewarming_awaited_ ABSL_GUARDED_BY(mu_) = false;
  Rewarming rewarming_ ABSL_GUARDED_BY(mu_);

  // For the thread that calls Configure, Start and Save.
  RewarmSettings settings_;
  Instant saved_at_{};
  bool save_failed_ = false;

  // For its own timer alone, once Start has returned.
  std::optional<Rewarmer> rewarmer_;
};

void WarmKeeper::Impl::Configure(const Settings& settings) {
  settings_ = settings.rewarm;
  MutexLock lock(&mu_);
  std::map<std::string, Floor> floors;
  for (const auto& [target, mine] : settings.targets) {
    if (mine.pool.warm == 0) continue;
    const auto before = floors_.find(target);
    Floor& floor = floors[target];
    if (before != floors_.end()) {
      floor = before->second;
      floor.awaited = floor.awaited && mine.ready_when_warm;
    } else {
      floor.awaited = mine.ready_when_warm;
    }
  }
  for (const auto& [target, floor] : floors_) {
    // The floor is gone from the configuration.
    if (!floors.contains(target)) {
      hooks_.set_health(absl::StrCat("target:", target), false);
    }
  }
  floors_ = std::move(floors);
}

void WarmKeeper::Impl::Start(Instant now, const std::string* handed) {
  saved_at_ = now;
  if (handed == nullptr && settings_.file.empty()) return;
  BeginRewarming(LoadEntries(handed), now);
}

std::vector<WarmEntry> WarmKeeper::Impl::LoadEntries(
    const std::string* handed) const {
  auto entries =
      handed != nullptr ? ParseWarmSet(*handed) : LoadWarmSet(settings_.file);
  if (entries.ok()) return *std::move(entries);
  if (absl::IsNotFound(entries.status())) {
    HOTLINE_LOG(kInfo, "no warm set yet", {{"file", settings_.file}});
  } else {
    HOTLINE_LOG(kError, "the warm set cannot be used: starting cold",
                {{"file", handed != nullptr ? "" : settings_.file},
                 {"error", std::string(entries.status().message())}});
  }
  return {};
}

void WarmKeeper::Impl::BeginRewarming(std::vector<WarmEntry> entries,
                                      Instant now) {
  if (entries.empty()) return;
  rewarmer_.emplace(std::move(entries), settings_.dials_per_second,
                    settings_.patience, now,
                    [this](const pool::HostPoolKey& key, int connections,
                           int most, Instant at) {
                      return hooks_.pool->Prewarm(key, connections, most, at);
                    });
  HOTLINE_LOG(kInfo, "dialling the warm set",
              {{"connections", rewarmer_->wanted()}});
  {
    MutexLock lock(&mu_);
    redialling_ = !rewarmer_->done();
    rewarming_awaited_ = settings_.ready_when_warm && redialling_;
    NoteRewarming();
  }
  if (!rewarmer_->done()) StepRewarming();
}

void WarmKeeper::Impl::StepRewarming() {
  {
    MutexLock lock(&mu_);
    if (stopped_ || draining_) return;
  }
  const Instant again = rewarmer_->Step(MonotonicNow());
  {
    MutexLock lock(&mu_);
    NoteRewarming();
    redialling_ = !rewarmer_->done();
    if (!redialling_) rewarming_awaited_ = false;
  }
  if (again == kNever) {
    HOTLINE_LOG(kInfo, "the warm set has been made",
                {{"connections", rewarmer_->wanted() - rewarmer_->missing()},
                 {"missing", rewarmer_->missing()}});
    return;
  }
  hooks_.run_at(again, [self = shared_from_this()] { self->StepRewarming(); });
}

void WarmKeeper::Impl::CheckFloors() {
  bool all_reached = true;
  {
    MutexLock lock(&mu_);
    if (stopped_ || draining_) return;
    for (auto& [target, floor] : floors_) {
      const bool serving = hooks_.pool->WarmDeficit(target) == 0;
      if (serving) floor.awaited = false;
      if (!floor.reported || serving != floor.serving) {
        hooks_.set_health(absl::StrCat("target:", target), serving);
      }
      floor.reported = true;
      floor.serving = serving;
      all_reached = all_reached && serving;
    }
  }
  hooks_.run_at(MonotonicNow() + (all_reached ? kCheck : kCheckSoon),
                [self = shared_from_this()] { self->CheckFloors(); });
}

std::vector<std::string> WarmKeeper::Impl::NotReady() const {
  std::vector<std::string> reasons;
  MutexLock lock(&mu_);
  for (const auto& [target, floor] : floors_) {
    if (floor.awaited) reasons.push_back(absl::StrCat("warming ", target));
  }
  if (rewarming_awaited_) {
    reasons.push_back(absl::StrCat(
        "dialling the warm set: ", rewarming_.missing, " connections missing"));
  }
  return reasons;
}

std::vector<std::string> WarmKeeper::Impl::NotWarm() const {
  std::vector<std::string> reasons;
  MutexLock lock(&mu_);
  for (const auto& [target, floor] : floors_) {
    if (hooks_.pool->WarmDeficit(target) == 0) continue;
    reasons.push_back(absl::StrCat("warming ", target));
  }
  if (redialling_) {
    reasons.push_back(absl::StrCat(
        "dialling the warm set: ", rewarming_.missing, " connections missing"));
  }
  return reasons;
}

std::string WarmKeeper::Impl::CurrentSet(Instant now) const {
  pool::SnapshotRequest wanted;
  wanted.targets = false;
  wanted.connections = true;
  return FormatWarmSet(WarmSetOf(hooks_.pool->TakeSnapshot(wanted, now)));
}

void WarmKeeper::Impl::Save(Instant now, bool at_once) {
  if (settings_.file.empty()) return;
  if (!at_once && now - saved_at_ < settings_.interval) return;
  saved_at_ = now;
  const absl::Status status = ReplaceFile(settings_.file, CurrentSet(now));
  if (!status.ok() && !save_failed_) {
    HOTLINE_LOG(
        kError, "the warm set cannot be written",
        {{"file", settings_.file}, {"error", std::string(status.message())}});
  }
  save_failed_ = !status.ok();
}

void WarmKeeper::Impl::StartDrain() {
  MutexLock lock(&mu_);
  draining_ = true;
  for (const auto& [target, floor] : floors_) {
    hooks_.set_health(absl::StrCat("target:", target), false);
  }
}

WarmKeeper::WarmKeeper(Hooks hooks)
    : impl_(std::make_shared<Impl>(std::move(hooks))) {}
WarmKeeper::~WarmKeeper() { impl_->Stop(); }

void WarmKeeper::Configure(const Settings& settings) {
  impl_->Configure(settings);
}
void WarmKeeper::Start(Instant now, const std::string* handed) {
  impl_->Start(now, handed);
}
void WarmKeeper::StartHealth() { impl_->StartHealth(); }
std::vector<std::string> WarmKeeper::NotReady() const {
  return impl_->NotReady();
}
std::vector<std::string> WarmKeeper::NotWarm() const {
  return impl_->NotWarm();
}
std::string WarmKeeper::CurrentSet(Instant now) const {
  return impl_->CurrentSet(now);
}
WarmKeeper::Rewarming WarmKeeper::rewarming() const {
  return impl_->rewarming();
}
void WarmKeeper::Save(Instant now, bool at_once) { impl_->Save(now, at_once); }
void WarmKeeper::StartDrain() { impl_->StartDrain(); }

}  // namespace hotline::server
