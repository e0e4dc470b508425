// Snapshots of a book, and the names of states and events.
#include <algorithm>

#include "upstream/address/book.h"

namespace hotline::upstream {

std::string_view ToString(AddressState state) {
  switch (state) {
    case AddressState::kActive:
      return "ACTIVE";
    case AddressState::kSuspect:
      return "SUSPECT";
    case AddressState::kCooling:
      return "COOLING";
    case AddressState::kEjected:
      return "EJECTED";
    case AddressState::kDenied:
      return "DENIED";
  }
  return "UNKNOWN";
}

std::string_view ToString(AddressEvent::Kind kind) {
  switch (kind) {
    case AddressEvent::Kind::kJoined:
      return "joined";
    case AddressEvent::Kind::kSuspect:
      return "suspect";
    case AddressEvent::Kind::kBack:
      return "back";
    case AddressEvent::Kind::kDrained:
      return "drained";
    case AddressEvent::Kind::kEjected:
      return "ejected";
    case AddressEvent::Kind::kCooled:
      return "cooled";
    case AddressEvent::Kind::kReturned:
      return "returned";
    case AddressEvent::Kind::kDenied:
      return "denied";
    case AddressEvent::Kind::kAllowed:
      return "allowed";
    case AddressEvent::Kind::kTestPassed:
      return "passed";
    case AddressEvent::Kind::kTestFailed:
      return "failed";
    case AddressEvent::Kind::kDnsFails:
      return "failing";
    case AddressEvent::Kind::kDnsAnswers:
      return "answering";
  }
  return "unknown";
}

AddressState AddressBook::StateOf(const Member& m) {
  if (!m.denied.empty()) return AddressState::kDenied;
  if (m.out == Out::kEjected) return AddressState::kEjected;
  if (m.out == Out::kCooling) return AddressState::kCooling;
  return m.unlisted ? AddressState::kSuspect : AddressState::kActive;
}

std::vector<AddressRow> AddressBook::Rows() const {
  std::vector<AddressRow> rows;
  for (const Member& m : members_) {
    AddressRow row;
    row.address = m.address;
    row.state = StateOf(m);
    row.why = m.why;
    if (row.state == AddressState::kDenied) {
      row.why = m.denied;
    } else if (row.state == AddressState::kSuspect) {
      row.why =
          m.draining ? "no longer in DNS; being drained" : "no longer in DNS";
    }
    if (m.out != Out::kNo && m.denied.empty()) row.until = m.until;
    row.dial_time = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(m.dial_seconds));
    row.failing = m.failing;
    row.dials = m.dials;
    row.failures = m.failures;
    row.failures_in_row = std::max(m.dial_failures, m.breaks);
    row.connections = m.connections;
    row.dialing = m.dialing;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace hotline::upstream
