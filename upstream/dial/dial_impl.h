// The implementation of Dial, private to its .cc files: connect.cc opens the
// socket, dial.cc makes a connection of it.
#ifndef HOTLINE_UPSTREAM_DIAL_DIAL_IMPL_H_
#define HOTLINE_UPSTREAM_DIAL_DIAL_IMPL_H_

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "net/socket_io.h"
#include "upstream/dial/connect_race.h"
#include "upstream/dial/dial.h"

namespace hotline::upstream {

template <typename T>
using Task = boost::asio::awaitable<T>;

inline constexpr auto kAwait =
    boost::asio::as_tuple(boost::asio::use_awaitable);
inline constexpr char kHttp1[] = "http/1.1";

class DialImpl final : public Dial,
                       public CallHandler,
                       public std::enable_shared_from_this<DialImpl> {
 public:
  DialImpl(net::Loop* loop, AddressKeeper* keeper,
           std::shared_ptr<const DialSettings> settings, Spec spec, Done done)
      : loop_(loop),
        keeper_(keeper),
        settings_(std::move(settings)),
        spec_(std::move(spec)),
        done_(std::move(done)),
        deadline_(MonotonicNow() + settings_->connect_timeout),
        timer_(loop->io()) {}

  void Begin() override;
  void Abort() override;

  // CallHandler, for the validation request:
  void OnDone(CallResult result) override {
    answer_ = std::move(result);
    timer_.cancel();
  }

 private:
  // The coroutine's own reference keeps the dial alive.
  static Task<void> Run(std::shared_ptr<DialImpl> self) {
    co_await self->Connect();
    self->Finish();
  }

  Task<void> Connect();
  bool FindRoute();
  bool ChooseProfile();
  Task<bool> Resolve();
  std::vector<IpAddress> Plan();
  // Races over `*order`, which becomes the addresses that are left to try.
  Task<bool> Race(std::vector<IpAddress>* order);
  ConnectRace::Options RaceOptions(std::vector<IpAddress> order) const;
  void TakeWinner(ConnectRace::Winner winner);
  Task<bool> Try();
  Task<bool> OpenTunnel();
  // Sends `out` and reads the proxy's answer to it.
  Task<bool> AskProxy(std::string out, std::string* problem);
  Task<bool> ShakeHands();
  Task<bool> Exchange(std::string* out);
  Task<bool> SendAll(std::string* out);
  bool FailLate();
  Task<bool> AwaitSettings();
  Task<bool> Validate();
  bool TakeEarlyBytes();
  void TakeFacts();
  bool TakeProtocol();
  std::vector<std::string> Offer() const;
  bool MakeConnection();

  // Interrupts a wait for the socket at `when`, or at the dial's deadline.
  void Watch(Instant when);
  void Unwatch();
  void Interrupt() {
    boost::system::error_code ignored;
    if (io_ != nullptr) io_->descriptor.cancel(ignored);
  }
  Task<bool> Await(net::SocketIo::Descriptor::wait_type what);

  bool Fail(pool::FailureClass failure_class, const char* reason,
            std::string what);
  bool FailHandshake(net::TlsResult result, const std::string& name);
  std::string TlsEnd(std::string_view what) const;
  void Finish();

  // The egress rule or operator's block that forbids `address`; empty: allowed.
  std::string Forbidden(const IpAddress& address) const;
  std::string_view Blocked(const IpAddress& address) const;
  std::string Where(const IpAddress& address) const;
  bool FailDenied(const std::string& where, std::string_view rule);
  void NoteFailures(const ConnectRace::Result& result);
  // Closes the current connection and gives its ticket back.
  void GiveUp();

  net::Loop* const loop_;
  AddressKeeper* const keeper_;
  const std::shared_ptr<const DialSettings> settings_;
  const Spec spec_;
  Done done_;
  const Instant deadline_;

  TargetParts parts_;
  // The host to resolve: the target's, or its proxy's.
  std::string host_;
  uint16_t port_ = 0;
  bool proxied_ = false;
  std::shared_ptr<const net::TlsContext> tls_;  // Null without TLS.
  int tried_ = 0;
  int denied_ = 0;
  DialResult result_;
  std::optional<pool::DialError> worst_;  // The most telling failure so far.
  boost::asio::steady_timer timer_;
  uint64_t watch_ = 0;  // The Watch that the timer belongs to.
  bool timed_out_ = false;
  bool aborted_ = false;
  bool local_failure_ = false;  // The last failure was not the address's.

  std::shared_ptr<ConnectRace> race_;
  std::optional<ConnectRace::Result> raced_;

  // The address being tried.
  std::string where_;  // "example.com (192.0.2.1:443)".
  ConnectionFacts facts_;
  std::string chosen_;  // By ALPN; empty: none.
  // Bytes of the tunnel received with the proxy's answer.
  std::string first_;
  std::string early_;  // Bytes received with the end of the handshake.
  std::unique_ptr<net::SocketIo> io_;
  std::unique_ptr<net::TlsEngine> engine_;
  std::shared_ptr<Connection> connection_;

  std::optional<absl::Status> resolved_;
  std::optional<CallResult> answer_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_DIAL_IMPL_H_
