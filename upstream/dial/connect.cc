// The first half of a dial, up to an open TCP connection: egress policy,
// address resolution, the race over the addresses, and the proxy's tunnel.
#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/http_chars.h"
#include "net/sockets.h"
#include "upstream/address/blocks.h"
#include "upstream/dial/dial_impl.h"
#include "upstream/dial/proxy.h"

namespace hotline::upstream {
namespace {

using pool::DialError;
using pool::FailureClass;

// Whether another of the host's addresses may succeed.
bool IsWorthAnotherAddress(const DialError& error) {
  const std::string_view reason = error.reason;
  return reason == "EGRESS_DENIED" || reason == "ADDRESS_BLOCKED" ||
         reason == "CONNECT_FAILED" || reason == "TLS_FAILED";
}

}  // namespace

Task<void> DialImpl::Connect() {
  if (!FindRoute()) co_return;
  if (parts_.tls && !ChooseProfile()) co_return;
  std::vector<IpAddress> order;
  if (spec_.test) {
    order = {*spec_.test};
  } else if (spec_.remote && !proxied_) {
    order = {*spec_.remote};
  } else {
    const bool known = co_await Resolve();
    if (!known) co_return;
    order = Plan();
  }
  while (!order.empty() && !aborted_) {
    const bool connected = co_await Race(&order);
    if (!connected || aborted_) break;
    const bool made = co_await Try();
    if (made) {
      keeper_->Established(spec_.target, result_.ticket, MonotonicNow());
      co_return;
    }
    GiveUp();
    if (!IsWorthAnotherAddress(*worst_)) break;
  }
  if (tried_ + denied_ > 1 && worst_) {
    absl::StrAppend(&worst_->message, " (the last of ", tried_ + denied_,
                    " addresses, ", denied_, " of them not allowed)");
  }
}

bool DialImpl::FindRoute() {
  const auto parts = TargetParts::Parse(spec_.target);
  if (!parts) {
    return Fail(FailureClass::kNetwork, "CONNECT_FAILED",
                absl::StrCat("\"", spec_.target, "\" is not a target"));
  }
  parts_ = *parts;
  host_ = parts_.lookup;
  port_ = parts_.port;
  const EgressPolicy& egress = settings_->egress;
  if (!spec_.sni.empty() && egress.DeniesName(spec_.sni)) {
    return FailDenied(spec_.sni, "egress.deny");
  }
  if (spec_.proxy.empty()) return true;
  const auto proxy = ProxyAddress::Parse(spec_.proxy);
  if (!proxy) {
    return Fail(FailureClass::kNetwork, "CONNECT_FAILED",
                absl::StrCat("\"", spec_.proxy, "\" is not a proxy"));
  }
  proxied_ = true;
  host_ = proxy->host;
  port_ = proxy->port;
  const auto decision = egress.CheckBehindProxy(parts_.host, spec_.remote);
  std::string_view rule = decision.allowed ? "" : decision.rule;
  if (rule.empty() && spec_.remote) rule = Blocked(*spec_.remote);
  if (rule.empty()) return true;
  const std::string behind =
      spec_.remote
          ? absl::StrCat(parts_.host, " (", spec_.remote->ToString(), ")")
          : parts_.host;
  return FailDenied(behind, rule);
}

std::string DialImpl::Forbidden(const IpAddress& address) const {
  const EgressPolicy& egress = settings_->egress;
  const auto decision = spec_.remote && !proxied_
                            ? egress.CheckChosen(host_, address)
                            : egress.Check(host_, address);
  return std::string(decision.allowed ? Blocked(address) : decision.rule);
}

std::string_view DialImpl::Blocked(const IpAddress& address) const {
  return keeper_->blocks().Why(spec_.target, address, MonotonicNow());
}

std::string DialImpl::Where(const IpAddress& address) const {
  return absl::StrCat(host_, " (", address.WithPort(port_), ")");
}

bool DialImpl::FailDenied(const std::string& where, std::string_view rule) {
  const bool blocked = AddressBlocks::IsReason(rule);
  return Fail(FailureClass::kPolicy,
              blocked ? "ADDRESS_BLOCKED" : "EGRESS_DENIED",
              absl::StrCat("connecting to ", where, " is not allowed: ",
                           absl::string_view(rule.data(), rule.size())));
}

Task<bool> DialImpl::Resolve() {
  const Instant start = MonotonicNow();
  resolved_ = keeper_->Know(spec_.key, host_, start);
  if (!resolved_) {
    keeper_->Await(
        spec_.key, host_,
        [weak = weak_from_this(), loop = loop_](absl::Status status) {
          loop->Post([weak, status = std::move(status)] {
            const auto self = weak.lock();
            if (self == nullptr || self->resolved_) return;
            self->resolved_ = status;
            self->timer_.cancel();
          });
        });
    timer_.expires_at(deadline_);
    while (!resolved_ && !aborted_ && MonotonicNow() < deadline_) {
      co_await timer_.async_wait(kAwait);
    }
    result_.timings.resolve = MonotonicNow() - start;
  }
  if (!resolved_) {
    // A later answer is ignored: resolved_ is set.
    resolved_ = absl::DeadlineExceededError(
        absl::StrCat("no answer about ", host_, " within ",
                     ToMilliseconds(result_.timings.resolve), " ms"));
  }
  if (resolved_->ok()) co_return true;
  co_return Fail(FailureClass::kNetwork, "DNS_FAILED",
                 std::string(resolved_->message()));
}

std::vector<IpAddress> DialImpl::Plan() {
  AddressBook::Plan plan = keeper_->Choose(
      spec_.target, spec_.random, MonotonicNow(),
      [this](const IpAddress& address) { return Forbidden(address); });
  denied_ += plan.denied;
  if (plan.forbidden && plan.order.empty()) {
    FailDenied(Where(*plan.forbidden), plan.rule);
  }
  return std::move(plan.order);
}

ConnectRace::Options DialImpl::RaceOptions(std::vector<IpAddress> order) const {
  ConnectRace::Options options{
      .target = spec_.target,
      .order = std::move(order),
      .port = port_,
      .stagger = settings_->stagger,
      .attempt_timeout = settings_->tcp_timeout,
      .deadline = deadline_,
      .source = spec_.source,
      .forbidden = [this](const IpAddress& at) { return Forbidden(at); }};
  const auto& sources = settings_->sources;
  if (!options.source && !sources.empty()) {
    options.source = sources[spec_.random % sources.size()];
  }
  return options;
}

Task<bool> DialImpl::Race(std::vector<IpAddress>* order) {
  const Instant start = MonotonicNow();
  raced_.reset();
  race_ = ConnectRace::Make(loop_, spec_.test ? nullptr : keeper_,
                            RaceOptions(std::move(*order)),
                            [this](ConnectRace::Result result) {
                              raced_ = std::move(result);
                              timer_.cancel();
                            });
  timer_.expires_at(boost::asio::steady_timer::time_point::max());
  race_->Begin();
  while (!raced_ && !aborted_) co_await timer_.async_wait(kAwait);
  race_->Cancel();  // Unless it is over.
  race_ = nullptr;
  result_.timings.connect = MonotonicNow() - start;
  if (!raced_) co_return false;
  NoteFailures(*raced_);
  *order = std::move(raced_->untried);
  if (!raced_->winner) co_return false;
  TakeWinner(*std::move(raced_->winner));
  co_return true;
}

void DialImpl::TakeWinner(ConnectRace::Winner winner) {
  ++tried_;
  io_ = std::move(winner.io);
  result_.ticket = winner.ticket;
  where_ = Where(winner.address);
  facts_ = ConnectionFacts();
  facts_.remote_address = winner.address.WithPort(port_);
  facts_.local_address = net::LocalAddress(io_->descriptor.native_handle());
}

void DialImpl::NoteFailures(const ConnectRace::Result& result) {
  for (const ConnectRace::Failure& failure : result.failures) {
    ++(failure.denied ? denied_ : tried_);
    if (failure.denied) {
      FailDenied(Where(failure.address), failure.why);
    } else {
      Fail(FailureClass::kNetwork, "CONNECT_FAILED",
           absl::StrCat("connecting to ", Where(failure.address), ": ",
                        failure.why));
    }
  }
}

void DialImpl::GiveUp() {
  if (connection_ != nullptr) {
    std::exchange(connection_, nullptr)->CloseNow(pool::CloseReason::kError);
  }
  io_.reset();
  engine_.reset();
  const AddressTicket ticket = std::exchange(result_.ticket, {});
  // A proxy that refuses is healthy, and so is an address that failed the check
  // of one caller.
  if (!aborted_ && !std::exchange(local_failure_, false) &&
      std::string_view(worst_->reason) != "PROXY_REFUSED" &&
      !worst_->callers_check) {
    keeper_->Broke(spec_.target, ticket, worst_->message, MonotonicNow());
  }
  keeper_->Closed(spec_.target, ticket);
}

Task<bool> DialImpl::OpenTunnel() {
  const bool brackets = parts_.host.find(':') != std::string::npos;
  const std::string where =
      spec_.remote ? spec_.remote->WithPort(parts_.port)
                   : absl::StrCat(brackets ? "[" : "", parts_.host,
                                  brackets ? "]:" : ":", parts_.port);
  if (!IsVisibleAscii(where)) {
    co_return Fail(FailureClass::kNetwork, "CONNECT_FAILED",
                   "the target's host cannot be written as HTTP");
  }
  std::string problem;
  const bool open = co_await AskProxy(ConnectRequest(where), &problem);
  if (open) co_return true;
  co_return Fail(FailureClass::kNetwork, "PROXY_REFUSED",
                 absl::StrCat("the proxy ", where_, " opened no tunnel to ",
                              where, ": ", problem));
}

Task<bool> DialImpl::AskProxy(std::string out, std::string* problem) {
  using Descriptor = net::SocketIo::Descriptor;
  const int fd = io_->descriptor.native_handle();
  ProxyAnswer answer;
  auto verdict = ProxyAnswer::Verdict::kMore;
  while (verdict == ProxyAnswer::Verdict::kMore) {
    const bool sending = !out.empty();
    const ssize_t size =
        sending ? send(fd, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT)
                : recv(fd, loop_->scratch(), net::Loop::kScratchBytes,
                       MSG_DONTWAIT);
    if (size > 0 && sending) {
      out.erase(0, static_cast<size_t>(size));
    } else if (size > 0) {
      verdict = answer.Feed({loop_->scratch(), static_cast<size_t>(size)});
    } else if (size == 0) {
      *problem = "it closed the connection";
      co_return false;
    } else if (errno != EAGAIN && errno != EINTR) {
      *problem = net::SocketErrorText(errno);
      co_return false;
    } else {
      const bool ready = co_await Await(sending ? Descriptor::wait_write
                                                : Descriptor::wait_read);
      if (!ready) {
        *problem = "no answer in time";
        co_return false;
      }
    }
  }
  if (verdict == ProxyAnswer::Verdict::kOpen) {
    first_ = answer.tunneled();
    co_return true;
  }
  *problem = verdict == ProxyAnswer::Verdict::kRefused
                 ? absl::StrCat("it answers ", answer.status())
                 : "its answer to CONNECT is invalid";
  co_return false;
}

}  // namespace hotline::upstream
