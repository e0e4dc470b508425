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
  const auto found = connections_.find(id);
  return found != connections_.end() && found->second.probes > 0;
}

void Network::Answer(Duration most, std::function<void()> what) {
  if (dice_->Percent(options_.inline_percent)) {
    what();
    return;
  }
  const auto most_us = static_cast<int>(most.count() / 1000);
  schedule_->At(schedule_->now() + dice_->Micros(0, most_us), std::move(what));
}

void Network::Dial(ConnId id, std::shared_ptr<const pool::HostPoolKey> key) {
  Expect(id != 0 && key != nullptr, "a dial of nothing");
  Expect(connections_.emplace(id, Connection{}).second, "an id is used twice");
  ++live_;
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
  return next_address_;  // The last one is never ejected.
}

bool Network::Fails(Address* address) {
  constexpr int kMostFailures = 3;
  const Instant now = schedule_->now();
  const bool fails = !calm_ && (now < address->down_until ||
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
    connections_.erase(id);
    --live_;
    tell_([&] { pool_->DialFailed(id, error, {}, schedule_->now()); });
    return;
  }
  Connection& conn = connections_[id];
  conn.phase = Connection::kOpen;
  conn.handle = next_handle_++;
  open_.push_back(id);
  pool::Established established;
  established.handle = conn.handle;
  established.max_streams =
      options_.max_streams == 1 ? 1 : dice_->Between(0, options_.max_streams);
  conn.streams = established.max_streams;
  const bool ends = !calm_ && dice_->Percent(options_.early_end_percent);
  tell_([&] { pool_->Dialed(id, established, schedule_->now()); });
  const auto made = connections_.find(id);
  if (!ends || made == connections_.end()) return;
  if (made->second.phase == Connection::kOpen) EndByItself(id, /*early=*/true);
}

const pool::DialError* Network::EarlyError(ConnId id, bool early) {
  static const pool::DialError errors[] = {
      {pool::FailureClass::kNetwork, "CONNECT_FAILED", "it ended early"},
      {pool::FailureClass::kTls, "TLS_FAILED", "it was refused early"}};
  Connection& conn = connections_[id];
  if (!early || conn.served || conn.early) return nullptr;
  conn.early = true;
  ++early_;
  return &errors[dice_->Between(0, 1)];
}

void Network::EndByItself(ConnId id, bool early) {
  const auto reason =
      dice_->Percent(50) ? CloseReason::kPeerClosed : CloseReason::kUnsolicited;
  if (early && dice_->Percent(30)) {
    const pool::DialError* const error = EarlyError(id, true);
    tell_([&] { pool_->GoAway(id, error, schedule_->now()); });
    if (!connections_.contains(id) ||
        connections_[id].phase != Connection::kOpen) {
      return;
    }
  }
  connections_[id].phase = Connection::kClosed;
  std::erase(open_, id);
  Answer(std::chrono::milliseconds(3),
         [this, id, reason, early] { TellClosed(id, reason, early); });
}

void Network::Probe(ConnId id, pool::Handle handle,
                    std::shared_ptr<const pool::HostPoolKey> key) {
  Expect(key != nullptr, "a probe without a key");
  const auto found = connections_.find(id);
  if (found != connections_.end()) {
    Connection& conn = found->second;
    Expect(conn.handle == handle, "a probe of another connection");
    Expect(conn.probes == 0, "two probes at once");
    Expect(!conn.close_asked, "a probe after the close");
    ++conn.probes;
  }
  Answer(std::chrono::milliseconds(30), [this, id] {
    const auto it = connections_.find(id);
    bool passed = false;
    if (it != connections_.end()) {
      --it->second.probes;
      passed = it->second.phase == Connection::kOpen &&
               (calm_ || !dice_->Percent(options_.probe_fails_percent));
    }
    tell_([&] { pool_->Probed(id, passed, schedule_->now()); });
  });
}

void Network::Close(ConnId id, pool::Handle handle, CloseReason reason) {
  static_cast<void>(reason);
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;  // Told meanwhile.
  Connection& conn = found->second;
  Expect(conn.phase != Connection::kDialing, "a close during the dial");
  Expect(conn.handle == handle, "a close of another connection");
  Expect(!conn.close_asked, "closed twice");
  conn.close_asked = true;
  if (conn.phase == Connection::kClosed) return;  // That is told already.
  conn.phase = Connection::kClosed;
  std::erase(open_, id);
  Answer(std::chrono::milliseconds(5),
         [this, id] { TellClosed(id, CloseReason::kError, false); });
}

void Network::TellClosed(ConnId id, CloseReason reason, bool early) {
  const pool::DialError* const error = EarlyError(id, early);
  connections_.erase(id);
  --live_;
  tell_([&] { pool_->Closed(id, reason, error, schedule_->now()); });
  // A stale word changes nothing.
  if (!calm_ && dice_->Percent(5)) {
    tell_([&] { pool_->Closed(id, reason, error, schedule_->now()); });
  }
}

void Network::WakeAt(int shard, Instant when) {
  if (!calm_ && dice_->Percent(options_.late_tick_percent)) {
    when +=
        dice_->Micros(0, static_cast<int>(options_.max_late.count() / 1000));
  }
  // One wake for each shard: a later one is ignored, an earlier one replaces
  // it.
  Wake& wake = wakes_[shard];
  if (wake.pending && wake.when <= when) return;
  wake.pending = true;
  wake.when = when;
  const uint64_t number = ++wake.number;
  // Now and then it comes too early, and that was it.
  if (!calm_ && dice_->Percent(3)) {
    when = schedule_->now() + (when - schedule_->now()) / 2;
  }
  schedule_->At(when, [this, shard, number] {
    Wake& due = wakes_[shard];
    if (due.number != number) return;
    due.pending = false;
    tell_([&] { pool_->Tick(shard, schedule_->now()); });
  });
}

void Network::ChangeLimit(ConnId id) {
  Connection& conn = connections_[id];
  const int streams = dice_->Between(0, options_.max_streams);
  if (streams > conn.streams) ++peer_events_.raised;
  if (streams < conn.streams) {
    ++(streams == 0 ? peer_events_.stopped : peer_events_.lowered);
  }
  conn.streams = streams;
  tell_([&] { pool_->ConcurrencyChanged(id, streams, schedule_->now()); });
}

void Network::Mischief() {
  if (calm_) return;
  if (dice_->Percent(10)) {
    const int last = static_cast<int>(addresses_.size()) - 1;
    addresses_[dice_->Between(0, last)].down_until =
        schedule_->now() + dice_->Millis(10, 300);
  }
  if (open_.empty()) return;
  const int index = dice_->Between(0, static_cast<int>(open_.size()) - 1);
  const ConnId id = open_[index];
  const Instant now = schedule_->now();
  const int what = dice_->Between(0, 11);
  if (what <= 3) {
    EndByItself(id, dice_->Percent(30));
  } else if (what <= 5) {
    ++peer_events_.goaways;
    tell_([&] { pool_->GoAway(id, nullptr, now); });
  } else if (what <= 7 && options_.max_streams > 1) {
    ChangeLimit(id);
  } else if (what <= 8) {
    const Duration timeout = dice_->Millis(20, 600);
    tell_([&] { pool_->KeepAliveSaid(id, timeout, now); });
  } else if (what <= 9) {
    connections_[id].served = true;
    tell_([&] { pool_->Served(id, now); });
  } else {
    tell_([&] { pool_->ErrorCounted(id, now); });
  }
}

}  // namespace hotline::sim
