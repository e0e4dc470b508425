// Session: messages of items in, messages of results out. Results that become
// ready in one turn leave in as few messages as Session makes of them, at the
// turn's end.
#include <memory>
#include <string>
#include <utility>

#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/session.h"
#include "server/front/caller_connection.h"
#include "server/front/front_loop.h"
#include "server/front/server_call.h"

namespace hotline::server {
namespace {

// Written by one session in one turn, so that others have theirs.
constexpr int kMaxMessages = 8;

class SessionOnStream final : public ServerCall, private SessionTransport {
 public:
  explicit SessionOnStream(const CallOrigin& origin)
      : ServerCall(origin, RpcMethod::kSession) {
    // So that the caller knows that there is a session.
    SendHeaders();
    ArmDeadline();
    BeginRun();
    session_ = Session::Start(home().parts().broker, TakeContext(), this);
  }

  void OnSendable() override {
    if (std::exchange(waiting_, false)) session_->OnWritten();
  }

  void OnTurnEnd() override {
    for (int i = 0; i < kMaxMessages && writing_ != nullptr; ++i) {
      waiting_ = SendEncoded(*std::exchange(writing_, nullptr)) > 0;
      if (waiting_) break;
      session_->OnWritten();  // It may write again.
    }
    listed_ = false;
    if (writing_ != nullptr) WriteLater();
  }

 private:
  // ServerCall:
  void OnMessage(std::string_view message) override {
    if (ErrorPtr error = Parse(message, std::exchange(wanted_, nullptr))) {
      return End(std::move(error));
    }
    session_->OnRead(true, MonotonicNow());
  }
  void OnHalfClose() override {
    wanted_ = nullptr;
    session_->OnRead(false, MonotonicNow());
  }
  void CancelRun() override {
    session_->OnCancel();
    const bool writing = std::exchange(writing_, nullptr) != nullptr;
    const bool waiting = std::exchange(waiting_, false);
    if (writing || waiting) session_->OnWritten();
  }

  // SessionTransport:
  void Read(v1::SessionRequest* into) override {
    OnLoop([this, into] {
      wanted_ = into;
      ReadNext();
    });
  }
  void Write(const std::string* message) override {
    OnLoop([this, message] {
      if (over()) return session_->OnWritten();  // Cancelled meanwhile.
      writing_ = message;
      WriteLater();
    });
  }
  void Yield() override {
    home().loop().Post([session = session_] { session->OnTurn(); });
  }
  void Finish(ErrorPtr error) override {
    OnLoop([this, error = std::move(error)]() mutable {
      EndRun(std::move(error));
    });
  }

  void WriteLater() {
    if (!std::exchange(listed_, true)) home().AtTurnEnd(this);
  }

  std::shared_ptr<Session> session_;
  v1::SessionRequest* wanted_ = nullptr;  // The read under way.
  const std::string* writing_ = nullptr;  // To be sent.
  bool waiting_ = false;  // What was sent waits; OnSendable follows.
  bool listed_ = false;   // OnTurnEnd follows, or is under way.
};

}  // namespace

ServerCall* NewSessionCall(const CallOrigin& origin) {
  return new SessionOnStream(origin);
}

}  // namespace hotline::server
