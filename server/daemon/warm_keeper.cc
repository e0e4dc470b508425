#include "server/daemon/warm_keeper.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace hotline::server {
namespace {

// How often floors are looked at: while one is awaited, and after that.
constexpr Duration kLookSoon = std::chrono::milliseconds(50);
constexpr Duration kLook = std::chrono::seconds(1);

}  // namespace

class WarmKeeper::Impl : public std::enable_shared_from_this<Impl> {
 public:
  explicit Impl(World world) : world_(std::move(world)) {}

  void Configure(const Settings& settings);
  void Start(Instant now);
  void Watch() { LookAtFloors(); }
  std::vector<std::string> NotReady() const;
  void Save(Instant now, bool now_anyway);
  void StartDrain();
  void Stop() {
    MutexLock lock(&mu_);
    stopped_ = true;
  }

 private:
  struct Floor {
    bool awaited = false;  // By readiness, and never there yet.
    bool told = false;     // Its health has been told, …
    bool serving = false;  // … as this.
  };

  void BeginRewarming(const RewarmSettings& settings, Instant now);
  void StepRewarming();
  void LookAtFloors();

  const World world_;
  mutable Mutex mu_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, Floor> floors_ ABSL_GUARDED_BY(mu_);
  bool rewarming_awaited_ ABSL_GUARDED_BY(mu_) = false;
  int rewarming_missing_ ABSL_GUARDED_BY(mu_) = 0;

  // Of whoever calls Configure, Start and Save.
  RewarmSettings settings_;
  Instant saved_at_{};
  bool save_failed_ = false;

  // Touched by its own timer only, one step after the other.
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
    // Nobody looks after it any more.
    if (!floors.contains(target)) {
      world_.set_health(absl::StrCat("target:", target), false);
    }
  }
  floors_ = std::move(floors);
}

void WarmKeeper::Impl::Start(Instant now) {
  saved_at_ = now;
  if (!settings_.file.empty()) BeginRewarming(settings_, now);
}

void WarmKeeper::Impl::BeginRewarming(const RewarmSettings& settings,
                                      Instant now) {
  auto entries = LoadWarmSet(settings.file);
  if (!entries.ok()) {
    if (absl::IsNotFound(entries.status())) {
      HOTLINE_LOG(kInfo, "no warm set yet", {{"file", settings.file}});
    } else {
      HOTLINE_LOG(kError, "the warm set cannot be used: starting cold",
                  {{"file", settings.file},
                   {"error", std::string(entries.status().message())}});
    }
    return;
  }
  rewarmer_.emplace(*std::move(entries), settings.dials_per_second,
                    settings.patience, now,
                    [this](const pool::HostPoolKey& key, int connections,
                           int most, Instant at) {
                      return world_.pool->Prewarm(key, connections, most, at);
                    });
  HOTLINE_LOG(kInfo, "making the warm set again",
              {{"file", settings.file}, {"connections", rewarmer_->wanted()}});
  {
    MutexLock lock(&mu_);
    rewarming_awaited_ = settings.ready_when_warm && !rewarmer_->done();
    rewarming_missing_ = rewarmer_->missing();
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
    rewarming_missing_ = rewarmer_->missing();
    if (rewarmer_->done()) rewarming_awaited_ = false;
  }
  if (again == kNever) {
    HOTLINE_LOG(kInfo, "the warm set has been made",
                {{"connections", rewarmer_->wanted() - rewarmer_->missing()},
                 {"missing", rewarmer_->missing()}});
    return;
  }
  world_.run_at(again, [self = shared_from_this()] { self->StepRewarming(); });
}

void WarmKeeper::Impl::LookAtFloors() {
  bool awaited = false;
  {
    MutexLock lock(&mu_);
    if (stopped_ || draining_) return;
    for (auto& [target, floor] : floors_) {
      const bool serving = world_.pool->WarmDeficit(target) == 0;
      if (serving) floor.awaited = false;
      if (!floor.told || serving != floor.serving) {
        world_.set_health(absl::StrCat("target:", target), serving);
      }
      floor.told = true;
      floor.serving = serving;
      awaited = awaited || !serving;
    }
  }
  world_.run_at(MonotonicNow() + (awaited ? kLookSoon : kLook),
                [self = shared_from_this()] { self->LookAtFloors(); });
}

std::vector<std::string> WarmKeeper::Impl::NotReady() const {
  std::vector<std::string> reasons;
  MutexLock lock(&mu_);
  for (const auto& [target, floor] : floors_) {
    if (floor.awaited) reasons.push_back(absl::StrCat("warming ", target));
  }
  if (rewarming_awaited_) {
    reasons.push_back(absl::StrCat("making the warm set: ", rewarming_missing_,
                                   " connections are missing"));
  }
  return reasons;
}

void WarmKeeper::Impl::Save(Instant now, bool now_anyway) {
  if (settings_.file.empty()) return;
  if (!now_anyway && now - saved_at_ < settings_.interval) return;
  saved_at_ = now;
  pool::SnapshotRequest wanted;
  wanted.targets = false;
  wanted.connections = true;
  const pool::Snapshot snapshot = world_.pool->TakeSnapshot(wanted, now);
  const absl::Status status =
      ReplaceFile(settings_.file, FormatWarmSet(WarmSetOf(snapshot)));
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
    world_.set_health(absl::StrCat("target:", target), false);
  }
}

WarmKeeper::WarmKeeper(World world)
    : impl_(std::make_shared<Impl>(std::move(world))) {}
WarmKeeper::~WarmKeeper() { impl_->Stop(); }

void WarmKeeper::Configure(const Settings& settings) {
  impl_->Configure(settings);
}
void WarmKeeper::Start(Instant now) { impl_->Start(now); }
void WarmKeeper::Watch() { impl_->Watch(); }
std::vector<std::string> WarmKeeper::NotReady() const {
  return impl_->NotReady();
}
void WarmKeeper::Save(Instant now, bool now_anyway) {
  impl_->Save(now, now_anyway);
}
void WarmKeeper::StartDrain() { impl_->StartDrain(); }

}  // namespace hotline::server
