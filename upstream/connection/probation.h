// Whether a connection has proven itself yet: what its owner learns from one
// that ends early.
#ifndef HOTLINE_UPSTREAM_CONNECTION_PROBATION_H_
#define HOTLINE_UPSTREAM_CONNECTION_PROBATION_H_

#include <utility>

#include "base/time.h"
#include "pool/transport.h"

namespace hotline::upstream {

// A connection is on probation for pool::kProbation after Begin. A peer that
// ends it by then, without a byte of an answer, has in effect refused the dial;
// one that ends it before its first complete answer may have a bad address.
//
// Not thread-safe: the connection's lock protects it.
class Probation {
 public:
  explicit Probation(Instant now) : began_(now) {}

  // The owner takes the connection over. Answers to its validation do not
  // count.
  void Begin(Instant now) {
    answered_ = report_answered_ = served_ = false;
    began_ = now;
  }

  // A part of an answer has come.
  void OnServed() { served_ = true; }
  // A call, or a PING, was answered in full.
  void OnAnswered() {
    if (!std::exchange(answered_, true)) report_answered_ = true;
  }
  // The peer ends the connection, or says that it will. `busy`: calls run.
  void OnPeerEnds(bool busy, Instant now) {
    const bool on_probation = now - began_ < pool::kProbation;
    ended_early_ = ended_early_ || (!served_ && on_probation);
    broke_ = !answered_ && (busy || on_probation);
  }

  bool answered() const { return answered_; }
  // True once, after the first complete answer.
  bool TakeAnswered() { return std::exchange(report_answered_, false); }
  // The peer ended it before the first complete answer, while it was busy or on
  // probation.
  bool broke() const { return broke_; }
  // True once: the peer ended it on probation, and nothing has come since.
  bool TakeEndedEarly() {
    return !served_ && std::exchange(ended_early_, false);
  }

 private:
  Instant began_;
  bool served_ = false;
  bool answered_ = false;
  bool report_answered_ = false;
  bool ended_early_ = false;
  bool broke_ = false;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_PROBATION_H_
