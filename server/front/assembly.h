// Bounds the memory of messages that have come in part, over all calls of one
// connection.
//
// The first part of a message, up to the window of its stream, needs no leave.
// More of it does, and is let in while the connection's messages together have
// at most `most` bytes. Past that one call at a time goes on, so that there is
// always one whose message can be completed.
//
// Not thread-safe.
//
// Invariant: bytes() exceeds `most` by one message at most.
#ifndef HOTLINE_SERVER_FRONT_ASSEMBLY_H_
#define HOTLINE_SERVER_FRONT_ASSEMBLY_H_

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace hotline::server {

class Assembly {
 public:
  class Member {
   public:
    // Take may be tried again.
    virtual void OnAssemblyRoom() = 0;

   protected:
    ~Member() = default;
  };

  explicit Assembly(size_t most) : most_(most) {}
  Assembly(const Assembly&) = delete;
  Assembly& operator=(const Assembly&) = delete;

  // True: `bytes` more are the member's. False: OnAssemblyRoom follows, unless
  // it leaves before.
  bool Take(Member* member, size_t bytes) {
    if (bytes_ + bytes > most_) {
      if (exempt_ == nullptr) exempt_ = member;
      if (exempt_ != member) {
        if (!Waits(member)) waiting_.push_back(member);
        return false;
      }
    }
    bytes_ += bytes;
    return true;
  }

  // The member's message is complete, or given up: all its bytes are free.
  void Leave(Member* member, size_t bytes) {
    std::erase(waiting_, member);
    bytes_ -= bytes;
    const bool exempt = exempt_ == member;
    if (exempt) exempt_ = nullptr;
    if (bytes == 0 && !exempt) return;
    for (Member* const next : std::exchange(waiting_, {})) {
      next->OnAssemblyRoom();
    }
  }

  size_t bytes() const { return bytes_; }

 private:
  bool Waits(const Member* member) const {
    return std::find(waiting_.begin(), waiting_.end(), member) !=
           waiting_.end();
  }

  const size_t most_;
  size_t bytes_ = 0;
  Member* exempt_ = nullptr;  // Goes on past `most_`.
  std::vector<Member*> waiting_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_ASSEMBLY_H_
