// Reloads that other threads ask for, to be done by the daemon's thread.
//
//   absl::Status status = requests.Ask();      // Any thread; waits.
//   ...
//   auto asked = requests.Take();              // The daemon's thread.
//   asked.Use([](const auto& update) { return Apply(update); });
//   if (!asked.empty()) asked.Answer(Reload());
//
// A request may bring the settings to use in place of the file's.
//
// Thread safety: Ask may be called from any thread.
#ifndef HOTLINE_SERVER_DAEMON_RELOAD_REQUESTS_H_
#define HOTLINE_SERVER_DAEMON_RELOAD_REQUESTS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace hotline::server {

struct Settings;

class ReloadRequests {
 public:
  // Settings to use, and where they came from.
  struct Update {
    std::shared_ptr<const Settings> settings;
    std::string name;
  };

 private:
  struct Request {
    Update update;        // Without settings: of the file.
    absl::Status status;  // Read after `answered`.
    absl::Notification answered;
  };

 public:
  class Asked {
   public:
    bool empty() const { return requests_.empty(); }
    // Answers those that bring settings with what `use(update)` returns, in
    // their order; the others remain.
    template <typename UseUpdate>
    void Use(UseUpdate use) {
      std::vector<std::shared_ptr<Request>> others;
      for (auto& request : requests_) {
        if (request->update.settings == nullptr) {
          others.push_back(std::move(request));
          continue;
        }
        request->status = use(request->update);
        request->answered.Notify();
      }
      requests_ = std::move(others);
    }
    void Answer(const absl::Status& status) {
      for (const auto& request : requests_) {
        request->status = status;
        request->answered.Notify();
      }
      requests_.clear();
    }

   private:
    friend class ReloadRequests;
    std::vector<std::shared_ptr<Request>> requests_;
  };

  // Waits for a reload that begins after this call, at most for a minute.
  // `wake` makes the daemon's thread look. Errors: those of the reload;
  // UNAVAILABLE: closed, or not answered in time.
  template <typename Wake>
  absl::Status Ask(Wake wake, Update update = {}) {
    const auto request = std::make_shared<Request>();
    request->update = std::move(update);
    {
      MutexLock lock(&mu_);
      if (closed_) return absl::UnavailableError("shutting down");
      waiting_.requests_.push_back(request);
    }
    wake();
    if (!request->answered.WaitForNotificationWithTimeout(absl::Minutes(1))) {
      return absl::UnavailableError("the reload takes too long");
    }
    return request->status;
  }

  Asked Take() {
    MutexLock lock(&mu_);
    return std::exchange(waiting_, {});
  }

  // Refuses what is asked from now on, and what waits.
  void Close() {
    {
      MutexLock lock(&mu_);
      closed_ = true;
    }
    Take().Answer(absl::UnavailableError("shutting down"));
  }

 private:
  Mutex mu_;
  Asked waiting_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_RELOAD_REQUESTS_H_
