#include "upstream/dial/connect_race.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "net/socket_io.h"
#include "net/sockets.h"

namespace hotline::upstream {
namespace {

namespace asio = boost::asio;

class ConnectRaceImpl final
    : public ConnectRace,
      public std::enable_shared_from_this<ConnectRaceImpl> {
 public:
  ConnectRaceImpl(net::Loop* loop, AddressKeeper* keeper, Options options,
                  Done done)
      : loop_(loop),
        keeper_(keeper),
        options_(std::move(options)),
        done_(std::move(done)),
        stagger_(loop->io()) {}

  void Begin() override {
    self_ = shared_from_this();
    StartNext();
  }

  void Cancel() override {
    if (done_ == nullptr) return;
    done_ = nullptr;
    End(nullptr);
  }

 private:
  struct Attempt {
    explicit Attempt(asio::io_context& io)
        : socket(std::make_unique<net::SocketIo>(io)), timer(io) {}
    IpAddress address;
    AddressTicket ticket;
    Instant began{};
    std::unique_ptr<net::SocketIo> socket;
    asio::steady_timer timer;
    bool over = false;
  };

  void StartNext();
  // False: the attempt failed at once, or the address is not allowed.
  bool Start(const IpAddress& address);
  int Open(const IpAddress& address, Attempt* attempt, std::string* local);
  void Wait(const std::shared_ptr<Attempt>& attempt);
  void OnWritable(const std::shared_ptr<Attempt>& attempt);
  void OnTimeout(const std::shared_ptr<Attempt>& attempt);
  void Fail(Attempt* attempt, std::string why, bool blame);
  void Win(Attempt* attempt);
  void Finish(Result result);
  // Closes all running attempts but the winner.
  void End(const Attempt* winner);

  net::Loop* const loop_;
  AddressKeeper* const keeper_;
  const Options options_;
  Done done_;
  size_t next_ = 0;
  asio::steady_timer stagger_;
  std::vector<std::shared_ptr<Attempt>> running_;
  std::vector<Failure> failures_;
  std::shared_ptr<ConnectRaceImpl> self_;
};

void ConnectRaceImpl::StartNext() {
  while (done_ != nullptr && next_ < options_.order.size() &&
         MonotonicNow() < options_.deadline) {
    if (Start(options_.order[next_++])) break;
  }
  if (done_ == nullptr) return;
  if (running_.empty()) return Finish({});
  if (next_ == options_.order.size()) return;
  stagger_.expires_after(options_.stagger);
  stagger_.async_wait([this, self = shared_from_this()](
                          const boost::system::error_code& error) {
    if (!error) StartNext();
  });
}

bool ConnectRaceImpl::Start(const IpAddress& address) {
  if (std::string rule = options_.forbidden(address); !rule.empty()) {
    failures_.push_back({address, true, std::move(rule)});
    return false;
  }
  if (options_.source && options_.source->v6 != address.v6) {
    failures_.push_back(
        {address, false,
         absl::StrCat("not of the family of the source address ",
                      options_.source->ToString())});
    return false;
  }
  auto attempt = std::make_shared<Attempt>(loop_->io());
  attempt->address = address;
  attempt->began = MonotonicNow();
  if (keeper_ != nullptr) {
    attempt->ticket = keeper_->Dialling(options_.target, address);
  }
  std::string local;
  int result = Open(address, attempt.get(), &local);
  if (result != 0) {
    Fail(attempt.get(), std::move(local), /*blame=*/false);
    return false;
  }
  running_.push_back(attempt);
  result = net::BeginConnect(attempt->socket->descriptor.native_handle(),
                             address, options_.port);
  if (result == 0) {
    Win(attempt.get());
  } else if (result == EINPROGRESS) {
    Wait(attempt);
  } else {
    Fail(attempt.get(), net::SocketErrorText(result), result != EADDRNOTAVAIL);
    return false;
  }
  return true;
}

// A failure here is local: not the address's fault.
int ConnectRaceImpl::Open(const IpAddress& address, Attempt* attempt,
                          std::string* local) {
  const int fd = net::OpenTcpSocket(address);
  if (fd < 0) {
    *local = net::SocketErrorText(errno);
    return -1;
  }
  if (options_.source) {
    if (const int error = net::BindSource(fd, *options_.source); error != 0) {
      *local = absl::StrCat("source address ", options_.source->ToString(),
                            ": ", net::SocketErrorText(error));
      close(fd);
      return -1;
    }
  }
  boost::system::error_code error;
  attempt->socket->descriptor.assign(fd, error);
  if (!error) return 0;
  close(fd);
  *local = error.message();
  return -1;
}

void ConnectRaceImpl::Wait(const std::shared_ptr<Attempt>& attempt) {
  attempt->socket->descriptor.async_wait(
      net::SocketIo::Descriptor::wait_write,
      [self = shared_from_this(),
       attempt](const boost::system::error_code& error) {
        if (!error && !attempt->over) self->OnWritable(attempt);
      });
  attempt->timer.expires_at(
      std::min(SaturatingAdd(attempt->began, options_.attempt_timeout),
               options_.deadline));
  attempt->timer.async_wait([self = shared_from_this(),
                             attempt](const boost::system::error_code& error) {
    if (!error && !attempt->over) self->OnTimeout(attempt);
  });
}

void ConnectRaceImpl::OnWritable(const std::shared_ptr<Attempt>& attempt) {
  const int result =
      net::ConnectOutcome(attempt->socket->descriptor.native_handle());
  if (result == 0) return Win(attempt.get());
  Fail(attempt.get(), net::SocketErrorText(result), result != EADDRNOTAVAIL);
  stagger_.cancel();
  StartNext();
}

void ConnectRaceImpl::OnTimeout(const std::shared_ptr<Attempt>& attempt) {
  const Duration waited = MonotonicNow() - attempt->began;
  // Cut short by the dial's deadline, it does not count against the address.
  Fail(attempt.get(),
       absl::StrCat("no answer within ", ToMilliseconds(waited), " ms"),
       waited >= options_.attempt_timeout);
  stagger_.cancel();
  StartNext();
}

void ConnectRaceImpl::Fail(Attempt* attempt, std::string why, bool blame) {
  attempt->over = true;
  attempt->timer.cancel();
  boost::system::error_code ignored;
  attempt->socket->descriptor.close(ignored);
  if (keeper_ != nullptr) {
    const Instant now = MonotonicNow();
    if (blame) {
      keeper_->DialFailed(options_.target, attempt->ticket, why, now);
    } else {
      keeper_->Abandoned(options_.target, attempt->ticket, now - attempt->began,
                         Duration(0), now);
    }
  }
  failures_.push_back({attempt->address, false, std::move(why)});
  std::erase_if(running_,
                [attempt](const auto& one) { return one.get() == attempt; });
}

void ConnectRaceImpl::Win(Attempt* attempt) {
  attempt->over = true;
  attempt->timer.cancel();
  Winner winner;
  winner.io = std::move(attempt->socket);
  winner.ticket = attempt->ticket;
  winner.address = attempt->address;
  winner.length = MonotonicNow() - attempt->began;
  if (keeper_ != nullptr) {
    keeper_->Connected(options_.target, winner.ticket, winner.length);
  }
  Result result;
  result.winner = std::move(winner);
  for (const auto& other : running_) {
    if (other.get() != attempt) result.untried.push_back(other->address);
  }
  result.untried.insert(result.untried.end(), options_.order.begin() + next_,
                        options_.order.end());
  End(attempt);
  Finish(std::move(result));
}

void ConnectRaceImpl::Finish(Result result) {
  stagger_.cancel();
  result.failures = std::move(failures_);
  const auto self = std::move(self_);
  auto done = std::exchange(done_, nullptr);
  done(std::move(result));
}

void ConnectRaceImpl::End(const Attempt* winner) {
  const Instant now = MonotonicNow();
  stagger_.cancel();
  for (const auto& attempt : std::exchange(running_, {})) {
    if (attempt.get() == winner) continue;
    attempt->over = true;
    attempt->timer.cancel();
    boost::system::error_code ignored;
    attempt->socket->descriptor.close(ignored);
    if (keeper_ == nullptr) continue;
    const Duration head_start =
        winner != nullptr && attempt->began < winner->began
            ? winner->began - attempt->began
            : Duration(0);
    keeper_->Abandoned(options_.target, attempt->ticket, now - attempt->began,
                       head_start, now);
  }
  if (winner == nullptr) self_ = nullptr;
}

}  // namespace

std::shared_ptr<ConnectRace> ConnectRace::Make(net::Loop* loop,
                                               AddressKeeper* keeper,
                                               Options options, Done done) {
  return std::make_shared<ConnectRaceImpl>(loop, keeper, std::move(options),
                                           std::move(done));
}

}  // namespace hotline::upstream
