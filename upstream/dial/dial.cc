#include "upstream/dial/dial.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "net/socket_io.h"
#include "net/sockets.h"
#include "upstream/dial/dial_impl.h"

namespace hotline::upstream {
namespace {

namespace asio = boost::asio;
using pool::DialError;
using pool::FailureClass;
constexpr char kHttp2[] = "h2";
// ConnectionFacts::protocol of raw targets.
constexpr char kTls[] = "tls";
constexpr char kTcp[] = "tcp";
constexpr int64_t kMostValidationBytes = 1 << 20;

// How far a dial got before it failed, as a rank.
int Progress(const DialError& error) {
  const std::string_view reason = error.reason;
  if (reason == "EGRESS_DENIED" || reason == "ADDRESS_BLOCKED") return 0;
  if (reason == "CONNECT_FAILED") return 1;
  if (reason == "PROXY_REFUSED") return 2;
  return 3;
}

}  // namespace

void DialImpl::Begin() {
  asio::co_spawn(loop_->io(), Run(shared_from_this()), asio::detached);
}

void DialImpl::Abort() {
  aborted_ = true;
  timer_.cancel();
  Interrupt();
  if (race_ != nullptr) race_->Cancel();
  if (connection_ != nullptr) {
    connection_->CloseNow(pool::CloseReason::kShutdown);
  }
}

bool DialImpl::Fail(FailureClass failure_class, const char* reason,
                    std::string what) {
  DialError error{failure_class, reason, std::move(what)};
  if (!worst_ || Progress(error) >= Progress(*worst_)) {
    worst_ = std::move(error);
  }
  return false;
}

void DialImpl::Finish() {
  if (aborted_) {
    GiveUp();
    worst_ =
        DialError{FailureClass::kNetwork, "CONNECT_FAILED", "shutting down"};
  }
  io_.reset();
  engine_.reset();
  result_.connection = std::move(connection_);
  if (result_.connection == nullptr) {
    result_.error = worst_ ? *std::move(worst_)
                           : DialError{FailureClass::kNetwork, "CONNECT_FAILED",
                                       "the deadline left no time to connect"};
  }
  done_(std::move(result_));
}

bool DialImpl::ChooseProfile() {
  where_ = parts_.host;
  tls_ = settings_->tls->Find(spec_.tls_profile);
  if (tls_ == nullptr) {
    // Removed from the configuration after the request was validated.
    return Fail(FailureClass::kTls, "TLS_FAILED",
                TlsEnd(absl::StrCat("there is no TLS profile \"",
                                    spec_.tls_profile, "\" any more")));
  }
  // For raw targets the profile's ALPN does not apply.
  const auto& offered = tls_->profile().alpn;
  if (parts_.raw || spec_.alpn.empty() ||
      std::find(offered.begin(), offered.end(), spec_.alpn) != offered.end()) {
    return true;
  }
  return Fail(FailureClass::kTls, "ALPN_MISMATCH",
              TlsEnd(absl::StrCat("the TLS profile \"", spec_.tls_profile,
                                  "\" does not offer ", spec_.alpn)));
}

Task<bool> DialImpl::Try() {
  timed_out_ = false;
  first_.clear();
  early_.clear();
  facts_.protocol = !parts_.raw ? kHttp1 : parts_.tls ? kTls : kTcp;
  Instant start = MonotonicNow();
  if (proxied_) {
    Watch(start + settings_->tls_timeout);
    const bool open = co_await OpenTunnel();
    Unwatch();
    result_.timings.connect += MonotonicNow() - start;
    if (!open) co_return false;
    // A tcp:// server may speak first; on HTTP/1.1 the codec rejects it.
    if (!parts_.tls) early_ = std::move(first_);
  }
  if (parts_.tls) {
    start = MonotonicNow();
    Watch(start + settings_->tls_timeout);
    const bool secured = co_await ShakeHands();
    Unwatch();
    result_.timings.tls = MonotonicNow() - start;
    if (!secured) co_return false;
  }
  if (!MakeConnection()) co_return false;
  if (connection_->facts()->protocol == kHttp2) {
    const bool ready = co_await AwaitSettings();
    result_.timings.tls = MonotonicNow() - start;
    if (!ready) co_return false;
  }
  if (spec_.validate.path.empty() || parts_.raw) co_return true;
  start = MonotonicNow();
  const bool valid = co_await Validate();
  result_.timings.validate = MonotonicNow() - start;
  co_return valid;
}

std::string DialImpl::TlsEnd(std::string_view what) const {
  return absl::StrCat("TLS with ", where_, ": ",
                      absl::string_view(what.data(), what.size()));
}

bool DialImpl::FailHandshake(net::TlsResult result, const std::string& name) {
  switch (result) {
    case net::TlsResult::kVerifyFailed:
      return Fail(FailureClass::kTls, "TLS_VERIFY_FAILED",
                  TlsEnd("the certificate is not accepted for \"" + name +
                         "\": " + engine_->error()));
    case net::TlsResult::kNoProtocol:
      return Fail(FailureClass::kTls, "ALPN_MISMATCH",
                  TlsEnd("the upstream does not speak " +
                         absl::StrJoin(Offer(), " or ")));
    case net::TlsResult::kClosed:
      return Fail(FailureClass::kTls, "TLS_FAILED",
                  TlsEnd("the upstream closed the connection"));
    default:
      return Fail(FailureClass::kTls, "TLS_FAILED", TlsEnd(engine_->error()));
  }
}

Task<bool> DialImpl::ShakeHands() {
  const std::string& name = spec_.sni.empty() ? parts_.host : spec_.sni;
  engine_ = net::TlsEngine::Create(tls_, name, Offer(), spec_.tls_scope);
  if (engine_ == nullptr) {
    co_return Fail(FailureClass::kTls, "TLS_FAILED",
                   TlsEnd("\"" + name + "\" is not a server's name"));
  }
  std::string out;
  engine_->Feed(first_);
  for (;;) {
    const net::TlsResult result = engine_->Handshake(&out);
    if (result == net::TlsResult::kOk) break;
    if (result != net::TlsResult::kWantInput) {
      // The alert, if it can be sent at once.
      (void)!send(io_->descriptor.native_handle(), out.data(), out.size(),
                  MSG_NOSIGNAL | MSG_DONTWAIT);
      co_return FailHandshake(result, name);
    }
    const bool exchanged = co_await Exchange(&out);
    if (!exchanged) co_return false;
  }
  TakeFacts();
  if (!TakeProtocol()) co_return false;
  // First of all: the bytes received with the end of the handshake are in the
  // loop's scratch buffer.
  if (!TakeEarlyBytes()) co_return false;
  const bool sent = co_await SendAll(&out);
  co_return sent;
}

std::vector<std::string> DialImpl::Offer() const {
  if (!spec_.alpn.empty()) return {spec_.alpn};
  if (parts_.raw) return {};
  return tls_->profile().alpn;
}

void DialImpl::TakeFacts() {
  const net::TlsFacts tls = engine_->facts();
  ++(tls.resumed ? result_.resumed_handshakes : result_.full_handshakes);
  chosen_ = tls.alpn;
  facts_.tls_version = tls.version;
  facts_.tls_cipher = tls.cipher;
  facts_.tls_profile = spec_.tls_profile;
  facts_.tls_resumed = tls.resumed;
  facts_.certificate_not_after = tls.not_after;
}

bool DialImpl::TakeProtocol() {
  const std::vector<std::string> offer = Offer();
  // A server without ALPN speaks HTTP/1.1.
  const std::string chosen = chosen_.empty() && !parts_.raw ? kHttp1 : chosen_;
  if (!offer.empty() &&
      std::find(offer.begin(), offer.end(), chosen) == offer.end()) {
    return Fail(
        FailureClass::kTls, "ALPN_MISMATCH",
        TlsEnd("the upstream chose \"" + Printable(chosen_) + "\", offered " +
               "was \"" + absl::StrJoin(offer, "\", \"") + "\""));
  }
  if (!parts_.raw) facts_.protocol = ToUtf8(chosen);
  return true;
}

// Sends the client's last handshake message.
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
                     TlsEnd(net::SocketErrorText(errno)));
    }
    const bool ready = co_await Await(net::SocketIo::Descriptor::wait_write);
    if (!ready) co_return FailLate();
  }
  co_return true;
}

bool DialImpl::FailLate() {
  const Duration limit =
      std::min(settings_->tls_timeout, settings_->connect_timeout);
  return Fail(FailureClass::kTls, "TLS_FAILED",
              TlsEnd(absl::StrCat("the handshake was not finished within ",
                                  ToMilliseconds(limit), " ms")));
}

// Sends `out`, waits for more and feeds it to the engine.
Task<bool> DialImpl::Exchange(std::string* out) {
  const int fd = io_->descriptor.native_handle();
  const auto failed = [this](std::string what) {
    return Fail(FailureClass::kTls, "TLS_FAILED", TlsEnd(what));
  };
  for (;;) {
    const bool sending = !out->empty();
    const ssize_t size = sending ? send(fd, out->data(), out->size(),
                                        MSG_NOSIGNAL | MSG_DONTWAIT)
                                 : recv(fd, loop_->scratch(),
                                        net::Loop::kScratchBytes, MSG_DONTWAIT);
    if (size > 0 && sending) {
      out->erase(0, static_cast<size_t>(size));
      // No answer to this can have arrived yet.
      if (!out->empty()) continue;
    } else if (size > 0) {
      engine_->Feed({loop_->scratch(), static_cast<size_t>(size)});
      co_return true;
    } else if (size == 0) {
      co_return failed("the upstream closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
      co_return failed(net::SocketErrorText(errno));
    }
    const bool ready =
        co_await Await(out->empty() ? net::SocketIo::Descriptor::wait_read
                                    : net::SocketIo::Descriptor::wait_write);
    if (!ready) co_return FailLate();
  }
}

// Reads what the peer sent after its part of the handshake: tickets; on HTTP/2
// SETTINGS; behind tls:// any data. On HTTP/1.1 data is an error, as no request
// was sent.
bool DialImpl::TakeEarlyBytes() {
  for (;;) {
    size_t size = 0;
    std::string out;
    const net::TlsResult result = engine_->Read(
        loop_->plain_scratch(), net::Loop::kScratchBytes, &size, &out);
    if (result == net::TlsResult::kWantInput) return true;
    if (result != net::TlsResult::kOk) {
      return Fail(FailureClass::kTls, "TLS_FAILED",
                  TlsEnd(result == net::TlsResult::kClosed
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

bool DialImpl::MakeConnection() {
  using Protocol = Connection::Protocol;
  const Protocol protocol = parts_.raw                  ? Protocol::kRaw
                            : facts_.protocol == kHttp2 ? Protocol::kHttp2
                                                        : Protocol::kHttp1;
  Connection::Options options{
      .target = spec_.target,
      .facts = std::make_shared<const ConnectionFacts>(std::move(facts_)),
      .ticket = result_.ticket,
      .protocol = protocol,
      .max_header_bytes = settings_->max_header_bytes,
      .ping_after = settings_->ping_after,
      .ping_timeout = settings_->ping_timeout};
  // Not make_shared: weak references would keep the memory.
  connection_ = std::shared_ptr<Connection>(
      new Connection(loop_, io_->descriptor.release(), std::move(engine_),
                     std::move(options)));
  io_ = nullptr;
  const bool watched = connection_->Open(early_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->timer_.cancel();
  });
  if (watched) return true;
  connection_ = nullptr;
  local_failure_ = true;
  return Fail(
      FailureClass::kNetwork, "CONNECT_FAILED",
      absl::StrCat("connecting to ", where_, ": its socket cannot be watched: ",
                   net::SocketErrorText(errno)));
}

// The number of concurrent requests is unknown before SETTINGS.
Task<bool> DialImpl::AwaitSettings() {
  const Instant start = MonotonicNow();
  const Instant end = std::min(start + settings_->tls_timeout, deadline_);
  timer_.expires_at(end);
  for (;;) {
    std::string problem;
    if (connection_->IsReady(&problem)) co_return true;
    if (problem.empty() && MonotonicNow() >= end) {
      problem = absl::StrCat("no HTTP/2 settings that allow a request came ",
                             "within ", ToMilliseconds(end - start), " ms");
    }
    if (!problem.empty() || aborted_) {
      co_return Fail(FailureClass::kTls, "TLS_FAILED", TlsEnd(problem));
    }
    co_await timer_.async_wait(kAwait);
  }
}

Task<bool> DialImpl::Validate() {
  const Check& check = spec_.validate;
  const HeaderView user_agent{"user-agent", "hotline"};
  const Request request{.method = check.method,
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
  if (answer.error == CallError::kTlsRefused) {
    co_return Fail(FailureClass::kTls, "TLS_FAILED", TlsEnd(answer.message));
  }
  // Without the query, which may be confidential.
  const std::string what =
      absl::StrCat(check.method.c_str(), " ",
                   check.path.substr(0, check.path.find('?')), " at ", where_);
  Fail(FailureClass::kValidation, "VALIDATION_FAILED",
       answer.error == CallError::kNone
           ? absl::StrCat(what, " was answered with ", answer.response.status,
                          ", not ", check.min_status, "-", check.max_status)
           : absl::StrCat(what, ": ", answer.message));
  worst_->callers_check = spec_.callers_check;
  co_return false;
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

Task<bool> DialImpl::Await(net::SocketIo::Descriptor::wait_type what) {
  if (timed_out_ || aborted_) co_return false;
  const auto [error] = co_await io_->descriptor.async_wait(what, kAwait);
  co_return !error && !timed_out_ && !aborted_;
}

bool Passes(const Check& check, const CallResult& result) {
  if (result.error != CallError::kNone) return false;
  if (check.min_status == 0 && check.max_status == 0) return true;
  return result.response.status >= check.min_status &&
         result.response.status <= check.max_status;
}

std::shared_ptr<Dial> Dial::Make(net::Loop* loop, AddressKeeper* keeper,
                                 std::shared_ptr<const DialSettings> settings,
                                 Spec spec, Done done) {
  return std::make_shared<DialImpl>(loop, keeper, std::move(settings),
                                    std::move(spec), std::move(done));
}

}  // namespace hotline::upstream
