#include "upstream/dialer.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "upstream/socket_io.h"
#include "upstream/sockets.h"

namespace hotline::upstream {
namespace {

namespace asio = boost::asio;
using pool::DialError;
using pool::FailureClass;
template <typename T>
using Task = asio::awaitable<T>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr char kHttp1[] = "http/1.1";
constexpr char kHttp2[] = "h2";
// Of targets of which nothing more is known.
constexpr char kTls[] = "tls";
constexpr char kTcp[] = "tcp";
constexpr int64_t kMostValidationBytes = 1 << 20;

int64_t Milliseconds(Duration length) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(length).count();
}

// Which of two failures says more of what is wrong: the one that got further.
int Telling(const DialError& error) {
  const std::string_view reason = error.reason;
  if (reason == "EGRESS_DENIED") return 0;
  if (reason == "CONNECT_FAILED") return 1;
  return 2;
}

// Others of the host's addresses may do better.
bool IsWorthAnotherAddress(const DialError& error) {
  const std::string_view reason = error.reason;
  return reason == "EGRESS_DENIED" || reason == "CONNECT_FAILED" ||
         reason == "TLS_FAILED";
}

class DialImpl final : public Dial,
                       public CallHandler,
                       public std::enable_shared_from_this<DialImpl> {
 public:
  DialImpl(Loop* loop, Resolver* resolver,
           std::shared_ptr<const DialSettings> settings, Request request,
           Done done)
      : loop_(loop),
        resolver_(resolver),
        settings_(std::move(settings)),
        request_(std::move(request)),
        done_(std::move(done)),
        deadline_(MonotonicNow() + settings_->connect_timeout),
        timer_(loop->io()) {}

  void Begin() override {
    asio::co_spawn(loop_->io(), Run(shared_from_this()), asio::detached);
  }

  void Abort() override {
    aborted_ = true;
    timer_.cancel();
    Interrupt();
    if (connection_ != nullptr) {
      connection_->CloseNow(pool::CloseReason::kShutdown);
    }
  }

  // Of the validation request.
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
  bool ChooseProfile();
  Task<std::optional<Addresses>> Resolve();
  Task<bool> Try(const IpAddress& address);
  Task<bool> ConnectTcp(const IpAddress& address);
  Task<bool> ShakeHands();
  Task<bool> Exchange(std::string* out);
  Task<bool> SendAll(std::string* out);
  bool FailLate();
  Task<bool> AwaitSettings();
  Task<bool> Validate();
  bool Settle();
  void TakeFacts();
  bool TakeProtocol();
  std::vector<std::string> Offer() const;
  void MakeConnection();

  // Interrupts what waits for the socket at `when`, or at the dial's deadline.
  void Watch(Instant when);
  void Unwatch();
  void Interrupt() {
    boost::system::error_code ignored;
    if (io_ != nullptr) io_->descriptor.cancel(ignored);
  }
  Task<bool> Await(SocketIo::Descriptor::wait_type what);

  bool Fail(FailureClass failure_class, const char* reason, std::string what);
  bool FailHandshake(TlsResult result, const std::string& name);
  std::string TlsEnd(std::string_view what) const;
  void Finish();

  Loop* const loop_;
  Resolver* const resolver_;
  const std::shared_ptr<const DialSettings> settings_;
  const Request request_;
  Done done_;
  const Instant deadline_;

  TargetParts parts_;
  std::shared_ptr<const TlsContext> tls_;  // Null without TLS.
  DialResult result_;
  std::optional<DialError> worst_;  // The most telling so far.
  asio::steady_timer timer_;
  uint64_t watch_ = 0;  // Which Watch the timer belongs to.
  bool timed_out_ = false;
  bool aborted_ = false;

  // Of the address being tried.
  std::string where_;  // "example.com (192.0.2.1:443)".
  ConnectionFacts facts_;
  std::string chosen_;  // By ALPN; empty: nothing.
  std::string early_;   // Received with the handshake's end.
  std::unique_ptr<SocketIo> io_;
  std::unique_ptr<TlsEngine> engine_;
  std::shared_ptr<Connection> connection_;

  std::optional<absl::StatusOr<Addresses>> resolved_;
  std::optional<CallResult> answer_;
};

bool DialImpl::Fail(FailureClass failure_class, const char* reason,
                    std::string what) {
  DialError error{failure_class, reason, std::move(what)};
  if (!worst_ || Telling(error) >= Telling(*worst_)) worst_ = std::move(error);
  return false;
}

void DialImpl::Finish() {
  io_.reset();
  engine_.reset();
  if (aborted_) {
    if (connection_) connection_->CloseNow(pool::CloseReason::kShutdown);
    connection_ = nullptr;
    worst_ =
        DialError{FailureClass::kNetwork, "CONNECT_FAILED", "shutting down"};
  }
  result_.connection = std::move(connection_);
  if (result_.connection == nullptr && worst_) {
    result_.error = *std::move(worst_);
  }
  done_(std::move(result_));
}

Task<void> DialImpl::Connect() {
  const auto parts = TargetParts::Parse(request_.target);
  if (!parts) {
    Fail(FailureClass::kNetwork, "CONNECT_FAILED",
         absl::StrCat("\"", request_.target, "\" is not a target"));
    co_return;
  }
  parts_ = *parts;
  if (parts_.tls && !ChooseProfile()) co_return;
  const std::optional<Addresses> addresses = co_await Resolve();
  if (!addresses) co_return;
  int denied = 0;
  for (const IpAddress& address : *addresses) {
    if (aborted_) co_return;
    if (MonotonicNow() >= deadline_) break;
    where_ =
        absl::StrCat(parts_.host, " (", address.WithPort(parts_.port), ")");
    const auto decision = settings_->egress.Check(parts_.host, address);
    if (!decision.allowed) {
      ++denied;
      Fail(FailureClass::kPolicy, "EGRESS_DENIED",
           absl::StrCat(
               "connecting to ", where_, " is not allowed: ",
               absl::string_view(decision.rule.data(), decision.rule.size())));
      continue;
    }
    const bool made = co_await Try(address);
    if (made) co_return;
    if (connection_ != nullptr) {
      std::exchange(connection_, nullptr)->CloseNow(pool::CloseReason::kError);
    }
    if (!IsWorthAnotherAddress(*worst_)) break;
  }
  if (addresses->size() > 1 && worst_) {
    absl::StrAppend(&worst_->message, " (the last of ", addresses->size(),
                    " addresses, ", denied, " of them not allowed)");
  }
}

bool DialImpl::ChooseProfile() {
  where_ = parts_.host;
  tls_ = settings_->tls->Find(request_.tls_profile);
  if (tls_ == nullptr) {
    // Taken out of the configuration after the request had been looked at.
    return Fail(FailureClass::kTls, "TLS_FAILED",
                TlsEnd(absl::StrCat("there is no TLS profile \"",
                                    request_.tls_profile, "\" any more")));
  }
  // What is spoken there without HTTP is not the profile's to say.
  const auto& offered = tls_->profile().alpn;
  if (parts_.raw || request_.alpn.empty() ||
      std::find(offered.begin(), offered.end(), request_.alpn) !=
          offered.end()) {
    return true;
  }
  return Fail(FailureClass::kTls, "ALPN_MISMATCH",
              TlsEnd(absl::StrCat("the TLS profile \"", request_.tls_profile,
                                  "\" does not offer ", request_.alpn)));
}

Task<std::optional<Addresses>> DialImpl::Resolve() {
  const Instant start = MonotonicNow();
  if (auto known = resolver_->Lookup(parts_.host, start)) co_return known;
  resolver_->Resolve(parts_.host, [weak = weak_from_this(), loop = loop_](
                                      absl::StatusOr<Addresses> result) {
    loop->Post([weak, result = std::move(result)]() mutable {
      const auto self = weak.lock();
      if (self == nullptr || self->resolved_) return;
      self->resolved_ = std::move(result);
      self->timer_.cancel();
    });
  });
  timer_.expires_at(deadline_);
  while (!resolved_ && !aborted_ && MonotonicNow() < deadline_) {
    co_await timer_.async_wait(kAwait);
  }
  result_.timings.resolve = MonotonicNow() - start;
  if (!resolved_) {
    // A late answer finds that nobody waits.
    resolved_ = absl::DeadlineExceededError("");
    Fail(FailureClass::kNetwork, "DNS_FAILED",
         absl::StrCat("no answer about ", parts_.host, " within ",
                      Milliseconds(result_.timings.resolve), " ms"));
    co_return std::nullopt;
  }
  if (!resolved_->ok()) {
    Fail(FailureClass::kNetwork, "DNS_FAILED",
         std::string(resolved_->status().message()));
    co_return std::nullopt;
  }
  co_return **resolved_;
}

Task<bool> DialImpl::Try(const IpAddress& address) {
  timed_out_ = false;
  engine_.reset();
  early_.clear();
  facts_ = ConnectionFacts();
  facts_.protocol = !parts_.raw ? kHttp1 : parts_.tls ? kTls : kTcp;
  facts_.remote_address = address.WithPort(parts_.port);
  Instant start = MonotonicNow();
  Watch(start + settings_->tcp_timeout);
  const bool connected = co_await ConnectTcp(address);
  Unwatch();
  result_.timings.connect = MonotonicNow() - start;
  if (!connected) co_return false;
  if (parts_.tls) {
    start = MonotonicNow();
    Watch(start + settings_->tls_timeout);
    const bool secured = co_await ShakeHands();
    Unwatch();
    result_.timings.tls = MonotonicNow() - start;
    if (!secured) co_return false;
  }
  MakeConnection();
  if (connection_->http2()) {
    const bool ready = co_await AwaitSettings();
    result_.timings.tls = MonotonicNow() - start;
    if (!ready) co_return false;
  }
  if (request_.validate.path.empty() || parts_.raw) co_return true;
  start = MonotonicNow();
  const bool valid = co_await Validate();
  result_.timings.validate = MonotonicNow() - start;
  co_return valid;
}

Task<bool> DialImpl::ConnectTcp(const IpAddress& address) {
  const auto failed = [this](std::string_view why) {
    return Fail(FailureClass::kNetwork, "CONNECT_FAILED",
                absl::StrCat("connecting to ", where_, ": ",
                             absl::string_view(why.data(), why.size())));
  };
  io_ = std::make_unique<SocketIo>(loop_->io());
  const int fd = OpenTcpSocket(address);
  if (fd < 0) co_return failed(SocketErrorText(errno));
  boost::system::error_code error;
  io_->descriptor.assign(fd, error);
  if (error) {
    close(fd);
    co_return failed(error.message());
  }
  int result = BeginConnect(fd, address, parts_.port);
  if (result == EINPROGRESS) {
    const bool ready = co_await Await(SocketIo::Descriptor::wait_write);
    if (!ready) {
      co_return failed(
          absl::StrCat("no answer within ",
                       Milliseconds(std::min(settings_->tcp_timeout,
                                             settings_->connect_timeout)),
                       " ms"));
    }
    result = ConnectOutcome(fd);
  }
  if (result != 0) co_return failed(SocketErrorText(result));
  facts_.local_address = LocalAddress(fd);
  co_return true;
}

std::string DialImpl::TlsEnd(std::string_view what) const {
  return absl::StrCat("TLS with ", where_, ": ",
                      absl::string_view(what.data(), what.size()));
}

bool DialImpl::FailHandshake(TlsResult result, const std::string& name) {
  switch (result) {
    case TlsResult::kVerifyFailed:
      return Fail(FailureClass::kTls, "TLS_VERIFY_FAILED",
                  TlsEnd("the certificate is not accepted for \"" + name +
                         "\": " + engine_->error()));
    case TlsResult::kNoProtocol:
      return Fail(FailureClass::kTls, "ALPN_MISMATCH",
                  TlsEnd("the upstream does not speak " +
                         absl::StrJoin(Offer(), " or ")));
    case TlsResult::kClosed:
      return Fail(FailureClass::kTls, "TLS_FAILED",
                  TlsEnd("the upstream closed the connection"));
    default:
      return Fail(FailureClass::kTls, "TLS_FAILED", TlsEnd(engine_->error()));
  }
}

Task<bool> DialImpl::ShakeHands() {
  const std::string& name = request_.sni.empty() ? parts_.host : request_.sni;
  engine_ = TlsEngine::Create(tls_, name, Offer(), request_.tls_scope);
  if (engine_ == nullptr) {
    co_return Fail(FailureClass::kTls, "TLS_FAILED",
                   TlsEnd("\"" + name + "\" is not a server's name"));
  }
  std::string out;
  for (;;) {
    const TlsResult result = engine_->Handshake(&out);
    if (result == TlsResult::kOk) break;
    if (result != TlsResult::kWantInput) {
      // The alert, if it goes without waiting.
      (void)!send(io_->descriptor.native_handle(), out.data(), out.size(),
                  MSG_NOSIGNAL | MSG_DONTWAIT);
      co_return FailHandshake(result, name);
    }
    const bool exchanged = co_await Exchange(&out);
    if (!exchanged) co_return false;
  }
  TakeFacts();
  if (!TakeProtocol()) co_return false;
  // Before anything else: what came with the handshake's end is in a buffer
  // that belongs to the loop.
  if (!Settle()) co_return false;
  const bool sent = co_await SendAll(&out);
  co_return sent;
}

std::vector<std::string> DialImpl::Offer() const {
  if (!request_.alpn.empty()) return {request_.alpn};
  if (parts_.raw) return {};
  return tls_->profile().alpn;
}

void DialImpl::TakeFacts() {
  const TlsFacts tls = engine_->facts();
  ++(tls.resumed ? result_.resumed_handshakes : result_.full_handshakes);
  chosen_ = tls.alpn;
  facts_.tls_version = tls.version;
  facts_.tls_cipher = tls.cipher;
  facts_.tls_profile = request_.tls_profile;
  facts_.tls_resumed = tls.resumed;
  facts_.certificate_not_after = tls.not_after;
}

bool DialImpl::TakeProtocol() {
  const std::vector<std::string> offer = Offer();
  // Who knows nothing of ALPN speaks HTTP/1.1.
  const std::string chosen = chosen_.empty() && !parts_.raw ? kHttp1 : chosen_;
  if (!offer.empty() &&
      std::find(offer.begin(), offer.end(), chosen) == offer.end()) {
    return Fail(FailureClass::kTls, "ALPN_MISMATCH",
                TlsEnd("the upstream chose \"" + chosen_ + "\", offered " +
                       "was \"" + absl::StrJoin(offer, "\", \"") + "\""));
  }
  if (!parts_.raw) facts_.protocol = chosen;
  return true;
}

// The client's last message.
Task<bool> DialImpl::SendAll(std::string* out) {
  while (!out->empty()) {
    const ssize_t size = send(io_->descriptor.native_handle(), out->data(),
                              out->size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size >= 0) {
      out->erase(0, static_cast<size_t>(size));
      continue;
    }
    if (errno != EAGAIN) {
      co_return Fail(FailureClass::kTls, "TLS_FAILED",
                     TlsEnd(SocketErrorText(errno)));
    }
    const bool ready = co_await Await(SocketIo::Descriptor::wait_write);
    if (!ready) co_return FailLate();
  }
  co_return true;
}

bool DialImpl::FailLate() {
  const Duration limit =
      std::min(settings_->tls_timeout, settings_->connect_timeout);
  return Fail(FailureClass::kTls, "TLS_FAILED",
              TlsEnd(absl::StrCat("the handshake was not finished within ",
                                  Milliseconds(limit), " ms")));
}

// Sends `out`, waits for more and feeds it to the engine.
Task<bool> DialImpl::Exchange(std::string* out) {
  const int fd = io_->descriptor.native_handle();
  const auto failed = [this](std::string what) {
    return Fail(FailureClass::kTls, "TLS_FAILED", TlsEnd(what));
  };
  for (;;) {
    const bool sending = !out->empty();
    const ssize_t size =
        sending
            ? send(fd, out->data(), out->size(), MSG_NOSIGNAL | MSG_DONTWAIT)
            : recv(fd, loop_->scratch(), Loop::kScratchBytes, MSG_DONTWAIT);
    if (size > 0 && sending) {
      out->erase(0, static_cast<size_t>(size));
      // Nothing can have come in answer to this yet.
      if (!out->empty()) continue;
    } else if (size > 0) {
      engine_->Feed({loop_->scratch(), static_cast<size_t>(size)});
      co_return true;
    } else if (size == 0) {
      co_return failed("the upstream closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
      co_return failed(SocketErrorText(errno));
    }
    const bool ready =
        co_await Await(out->empty() ? SocketIo::Descriptor::wait_read
                                    : SocketIo::Descriptor::wait_write);
    if (!ready) co_return FailLate();
  }
}

// Takes in what the peer sent after its part of the handshake: tickets, and on
// HTTP/2 its settings; behind tls:// whatever it likes. On HTTP/1.1 no data,
// for nothing was asked yet.
bool DialImpl::Settle() {
  for (;;) {
    size_t size = 0;
    std::string out;
    const TlsResult result =
        engine_->Read(loop_->plain_scratch(), Loop::kScratchBytes, &size, &out);
    if (result == TlsResult::kWantInput) return true;
    if (result != TlsResult::kOk) {
      return Fail(FailureClass::kTls, "TLS_FAILED",
                  TlsEnd(result == TlsResult::kClosed
                             ? "the upstream closed the connection"
                             : engine_->error()));
    }
    if (facts_.protocol == kHttp1) {
      return Fail(FailureClass::kNetwork, "CONNECT_FAILED",
                  absl::StrCat(where_, " sent ", size,
                               " bytes before it was asked anything"));
    }
    early_.append(loop_->plain_scratch(), size);
  }
}

void DialImpl::MakeConnection() {
  const bool http2 = facts_.protocol == kHttp2;
  Connection::Options options{
      .target = request_.target,
      .facts = std::make_shared<const ConnectionFacts>(std::move(facts_)),
      .max_header_bytes = settings_->max_header_bytes,
      .ping_after = settings_->ping_after,
      .ping_timeout = settings_->ping_timeout,
      .http2 = http2,
      .raw = parts_.raw};
  // Not make_shared: weak references must not keep the memory.
  connection_ = std::shared_ptr<Connection>(
      new Connection(loop_, io_->descriptor.release(), std::move(engine_),
                     std::move(options)));
  io_ = nullptr;
  connection_->Open(early_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->timer_.cancel();
  });
}

// Without them nobody knows how many requests the peer takes.
Task<bool> DialImpl::AwaitSettings() {
  const Instant start = MonotonicNow();
  const Instant end = std::min(start + settings_->tls_timeout, deadline_);
  timer_.expires_at(end);
  for (;;) {
    std::string problem;
    if (connection_->IsReady(&problem)) co_return true;
    if (problem.empty() && MonotonicNow() >= end) {
      problem = absl::StrCat("its HTTP/2 settings did not come within ",
                             Milliseconds(end - start), " ms");
    }
    if (!problem.empty() || aborted_) {
      co_return Fail(FailureClass::kTls, "TLS_FAILED", TlsEnd(problem));
    }
    co_await timer_.async_wait(kAwait);
  }
}

Task<bool> DialImpl::Validate() {
  const Check& check = request_.validate;
  const HeaderView user_agent{"user-agent", "hotline"};
  const upstream::Request request{.method = check.method,
                                  .authority = parts_.authority,
                                  .path = check.path,
                                  .headers = {&user_agent, 1},
                                  .max_response_bytes = kMostValidationBytes,
                                  .deadline = deadline_};
  connection_->StartCall(request, this, MonotonicNow());
  timer_.expires_at(asio::steady_timer::time_point::max());
  while (!answer_) co_await timer_.async_wait(kAwait);
  if (Passes(check, *answer_)) co_return true;
  const CallResult& answer = *answer_;
  co_return Fail(
      FailureClass::kValidation, "VALIDATION_FAILED",
      answer.error == CallError::kNone
          ? absl::StrCat(check.method.c_str(), " ", check.path.c_str(), " at ",
                         where_, " was answered with ", answer.response.status,
                         ", not ", check.min_status, "-", check.max_status)
          : absl::StrCat(check.method.c_str(), " ", check.path.c_str(), " at ",
                         where_, ": ", answer.message));
}

void DialImpl::Watch(Instant when) {
  timer_.expires_at(std::min(when, deadline_));
  timer_.async_wait([weak = weak_from_this(),
                     watch = ++watch_](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (error || self == nullptr || self->watch_ != watch) return;
    self->timed_out_ = true;
    self->Interrupt();
  });
}

void DialImpl::Unwatch() {
  ++watch_;
  timer_.cancel();
}

Task<bool> DialImpl::Await(SocketIo::Descriptor::wait_type what) {
  if (timed_out_ || aborted_) co_return false;
  const auto [error] = co_await io_->descriptor.async_wait(what, kAwait);
  co_return !error && !timed_out_ && !aborted_;
}

}  // namespace

bool Passes(const Check& check, const CallResult& result) {
  if (result.error != CallError::kNone) return false;
  if (check.min_status == 0 && check.max_status == 0) return true;
  return result.response.status >= check.min_status &&
         result.response.status <= check.max_status;
}

std::shared_ptr<Dial> Dial::Make(Loop* loop, Resolver* resolver,
                                 std::shared_ptr<const DialSettings> settings,
                                 Request request, Done done) {
  return std::make_shared<DialImpl>(loop, resolver, std::move(settings),
                                    std::move(request), std::move(done));
}

}  // namespace hotline::upstream
