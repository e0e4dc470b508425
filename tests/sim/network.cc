#include "tests/sim/network.h"

#include <algorithm>
#include <utility>

namespace hotline::sim {

using pool::CloseReason;
using pool::ConnId;

Network::Network(Schedule* schedule, Dice* dice, const NetworkOptions& options)
    : schedule_(schedule),
      dice_(dice),
      options_(options),
      addresses_(options.addresses) {}

void Network::Expect(bool holds, const char* what) {
  if (!holds && problem_.empty()) problem_ = what;
}

bool Network::ProbeOutstanding(ConnId id) const {
  const auto found = peers_.find(id);
  return found != peers_.end() && found->second.probes > 0;
}

void Network::Answer(Duration most, std::function<void()> answer) {
  if (dice_->Percent(options_.inline_percent)) {
    answer();
    return;
  }
  const auto most_us = static_cast<int>(most.count() / 1000);
  schedule_->At(schedule_->now() + dice_->Micros(0, most_us),
                std::move(answer));
}

void Network::Dial(ConnId id, std::shared_ptr<const pool::HostPoolKey> key,
                   pool::LoopIndex loop) {
  Expect(id != 0 && key != nullptr, "a dial of nothing");
  Expect(peers_.emplace(id, Peer{}).second, "an id is used twice");
  // A transport need not place it where it was asked to.
  const bool as_asked = loop != pool::kNoLoop && dice_->Percent(90);
  loops_[id] =
      as_asked
          ? loop
          : static_cast<pool::LoopIndex>(dice_->Between(0, options_.loops - 1));
  ++outstanding_;
  ++dials_;
  Answer(options_.max_dial, [this, id, key, address = ChooseAddress()] {
    FinishDial(id, address);
  });
}

size_t Network::ChooseAddress() {
  for (size_t tries = 0; tries < addresses_.size(); ++tries) {
    next_address_ = (next_address_ + 1) % addresses_.size();
    if (addresses_[next_address_].ejected_until <= schedule_->now()) break;
  }
  return next_address_;  // All are ejected: the last one is used.
}

bool Network::Fails(Address* address) {
  constexpr int kMostFailures = 3;
  const Instant now = schedule_->now();
  const bool fails = faults_ && (now < address->down_until ||
                                 dice_->Percent(options_.dial_fails_percent));
  address->failures = fails ? address->failures + 1 : 0;
  if (address->failures >= kMostFailures) {
    address->failures = 0;
    address->ejected_until = now + std::chrono::milliseconds(50);
  }
  return fails;
}

void Network::FinishDial(ConnId id, size_t address) {
  if (Fails(&addresses_[address])) {
    pool::DialError error;
    error.failure_class = static_cast<pool::FailureClass>(dice_->Between(0, 3));
    error.message = "no";
    peers_.erase(id);
    --outstanding_;
    post_([&] { pool_->DialFailed(id, error, schedule_->now()); });
    return;
  }
  Peer& peer = peers_[id];
  peer.phase = Peer::kOpen;
  open_.push_back(id);
  pool::Established established;
  established.loop = loops_[id];
  established.max_streams =
      options_.max_streams == 1 ? 1 : dice_->Between(0, options_.max_streams);
  peer.streams = established.max_streams;
  const bool ends = faults_ && dice_->Percent(options_.early_end_percent);
  post_([&] { pool_->Dialed(id, established, schedule_->now()); });
  const auto made = peers_.find(id);
  if (!ends || made == peers_.end()) return;
  if (made->second.phase == Peer::kOpen) EndByItself(id, /*early=*/true);
}

const pool::DialError* Network::EarlyError(ConnId id, bool early) {
  static const pool::DialError errors[] = {
      {pool::FailureClass::kNetwork, "CONNECT_FAILED", "it ended early"},
      {pool::FailureClass::kTls, "TLS_FAILED", "it was refused early"}};
  Peer& peer = peers_[id];
  if (!early || peer.served || peer.early) return nullptr;
  peer.early = true;
  ++early_;
  return &errors[dice_->Between(0, 1)];
}

void Network::EndByItself(ConnId id, bool early) {
  const auto reason =
      dice_->Percent(50) ? CloseReason::kPeerClosed : CloseReason::kUnsolicited;
  if (early && dice_->Percent(30)) {
    const pool::DialError* const error = EarlyError(id, true);
    post_([&] { pool_->GoAway(id, error, schedule_->now()); });
    if (!peers_.contains(id) || peers_[id].phase != Peer::kOpen) {
      return;
    }
  }
  peers_[id].phase = Peer::kClosed;
  std::erase(open_, id);
  Answer(std::chrono::milliseconds(3),
         [this, id, reason, early] { PostClosed(id, reason, early); });
}

void Network::Probe(ConnId id, std::shared_ptr<const pool::HostPoolKey> key) {
  Expect(key != nullptr, "a probe without a key");
  const auto found = peers_.find(id);
  if (found != peers_.end()) {
    Peer& peer = found->second;
    Expect(peer.phase != Peer::kDialing, "a probe during the dial");
    Expect(peer.probes == 0, "two probes at once");
    Expect(!peer.close_asked, "a probe after the close");
    ++peer.probes;
  }
  Answer(std::chrono::milliseconds(30), [this, id] {
    const auto it = peers_.find(id);
    bool passed = false;
    if (it != peers_.end()) {
      --it->second.probes;
      passed = it->second.phase == Peer::kOpen &&
               (!faults_ || !dice_->Percent(options_.probe_fails_percent));
    }
    post_([&] { pool_->Probed(id, passed, schedule_->now()); });
  });
}

void Network::Close(ConnId id, CloseReason reason) {
  static_cast<void>(reason);
  const auto found = peers_.find(id);
  if (found == peers_.end()) return;  // Its close was reported meanwhile.
  Peer& peer = found->second;
  Expect(peer.phase != Peer::kDialing, "a close during the dial");
  Expect(!peer.close_asked, "closed twice");
  peer.close_asked = true;
  if (peer.phase == Peer::kClosed) return;  // The report is under way.
  peer.phase = Peer::kClosed;
  std::erase(open_, id);
  Answer(std::chrono::milliseconds(5),
         [this, id] { PostClosed(id, CloseReason::kError, false); });
}

void Network::PostClosed(ConnId id, CloseReason reason, bool early) {
  const pool::DialError* const error = EarlyError(id, early);
  peers_.erase(id);
  --outstanding_;
  post_([&] { pool_->Closed(id, reason, error, schedule_->now()); });
  // A stale event changes nothing.
  if (faults_ && dice_->Percent(5)) {
    post_([&] { pool_->Closed(id, reason, error, schedule_->now()); });
  }
}

void Network::WakeAt(int shard, Instant when) {
  if (faults_ && dice_->Percent(options_.late_tick_percent)) {
    when +=
        dice_->Micros(0, static_cast<int>(options_.max_late.count() / 1000));
  }
  // Each shard has one wake: an earlier one replaces it, a later one is
  // ignored.
  Wake& wake = wakes_[shard];
  if (wake.pending && wake.when <= when) return;
  wake.pending = true;
  wake.when = when;
  const uint64_t number = ++wake.number;
  // Sometimes the tick comes too early, and no other one.
  if (faults_ && dice_->Percent(3)) {
    when = schedule_->now() + (when - schedule_->now()) / 2;
  }
  schedule_->At(when, [this, shard, number] {
    Wake& due = wakes_[shard];
    if (due.number != number) return;
    due.pending = false;
    post_([&] { pool_->Tick(shard, schedule_->now()); });
  });
}

void Network::ChangeLimit(ConnId id) {
  Peer& peer = peers_[id];
  const int streams = dice_->Between(0, options_.max_streams);
  if (streams > peer.streams) ++peer_events_.raised;
  if (streams < peer.streams) {
    ++(streams == 0 ? peer_events_.stopped : peer_events_.lowered);
  }
  peer.streams = streams;
  post_([&] { pool_->ConcurrencyChanged(id, streams, schedule_->now()); });
}

void Network::CauseRandomEvent() {
  if (!faults_) return;
  if (dice_->Percent(10)) {
    const int last = static_cast<int>(addresses_.size()) - 1;
    addresses_[dice_->Between(0, last)].down_until =
        schedule_->now() + dice_->Millis(10, 300);
  }
  if (open_.empty()) return;
  const int index = dice_->Between(0, static_cast<int>(open_.size()) - 1);
  const ConnId id = open_[index];
  const Instant now = schedule_->now();
  const int roll = dice_->Between(0, 11);
  if (roll <= 3) {
    EndByItself(id, dice_->Percent(30));
  } else if (roll <= 5) {
    ++peer_events_.goaways;
    post_([&] { pool_->GoAway(id, nullptr, now); });
  } else if (roll <= 7 && options_.max_streams > 1) {
    ChangeLimit(id);
  } else if (roll <= 8) {
    const Duration timeout = dice_->Millis(20, 600);
    post_([&] { pool_->KeepAliveSaid(id, timeout, now); });
  } else if (roll <= 9) {
    peers_[id].served = true;
    post_([&] { pool_->Served(id, now); });
  } else {
    post_([&] { pool_->ErrorCounted(id, now); });
  }
}

}  // namespace hotline::sim
