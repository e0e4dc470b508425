#include "server/observe/span_exporter.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/url.h"
#include "base/version.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/core/tcp_stream.hpp"
#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/read.hpp"
#include "boost/beast/http/string_body.hpp"
#include "boost/beast/http/write.hpp"
#include "server/observe/span.h"

namespace hotline::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr Duration kMaxPause = std::chrono::seconds(30);

bool IsTransient(unsigned status) {
  return status == 408 || status == 429 || status == 502 || status == 503 ||
         status == 504;
}

// Spans separated by commas.
struct Batch {
  std::string spans;
  uint64_t count = 0;

  void Add(std::string_view span) {
    if (count++ > 0) spans += ',';
    spans += span;
  }
};

// One thread's HTTP client. Only GiveUp may be called from another one.
class CollectorClient {
 public:
  explicit CollectorClient(Duration timeout) : timeout_(timeout) {}

  // Returns the status of the answer; 0: there was none, and `*error` says why.
  unsigned Post(const ParsedUrl& url, std::string body, std::string* error) {
    unsigned status = 0;
    const error_code failed = Exchange(url, std::move(body), &status);
    if (failed) *error = failed.message();
    return failed ? 0 : status;
  }

  // Ends a Post that is under way, and all later ones.
  void GiveUp() {
    given_up_ = true;
    io_.stop();
  }

 private:
  error_code Exchange(const ParsedUrl& url, std::string body,
                      unsigned* status) {
    tcp::resolver resolver(io_);
    tcp::resolver::results_type found;
    error_code error = Await([&](auto done) {
      resolver.async_resolve(
          url.target.host, absl::StrCat(url.target.port),
          [&found, done](error_code code, tcp::resolver::results_type results) {
            found = std::move(results);
            done(code);
          });
    });
    if (error) return error;
    beast::tcp_stream stream(io_);
    error = Await([&](auto done) {
      stream.expires_after(timeout_);
      stream.async_connect(
          found, [done](error_code code, const tcp::endpoint&) { done(code); });
    });
    if (error) return error;
    const auto request = RequestOf(url, std::move(body));
    error = Await([&](auto done) {
      stream.expires_after(timeout_);
      http::async_write(stream, request,
                        [done](error_code code, size_t) { done(code); });
    });
    if (error) return error;
    beast::flat_buffer buffer;
    http::response_parser<http::empty_body> parser;
    error = Await([&](auto done) {
      stream.expires_after(timeout_);
      http::async_read_header(stream, buffer, parser,
                              [done](error_code code, size_t) { done(code); });
    });
    *status = parser.get().result_int();
    return error;
  }

  static http::request<http::string_body> RequestOf(const ParsedUrl& url,
                                                    std::string body) {
    http::request<http::string_body> request(http::verb::post, url.path, 11);
    request.set(http::field::host, url.authority);
    request.set(http::field::user_agent, absl::StrCat("hotline/", kVersion));
    request.set(http::field::content_type, "application/json");
    request.keep_alive(false);
    request.body() = std::move(body);
    request.prepare_payload();
    return request;
  }

  // Starts an operation, and runs the loop until it has called `done`.
  template <typename Start>
  error_code Await(Start start) {
    error_code result = asio::error::operation_aborted;
    start([&result](error_code code) { result = code; });
    io_.restart();
    // GiveUp sets this before it stops the loop, which ends run at once.
    if (!given_up_) io_.run();
    return result;
  }

  const Duration timeout_;
  std::atomic<bool> given_up_{false};
  asio::io_context io_{1};
};

}  // namespace

class SpanExporter::Impl : public std::enable_shared_from_this<Impl> {
 public:
  explicit Impl(Options options)
      : options_(std::move(options)), client_(options_.timeout) {}

  void SetCollector(std::string_view url) {
    ParsedUrl parsed;
    const bool off = url.empty() || ParseUrl(url, &parsed).has_value();
    MutexLock lock(&mu_);
    if (stopping_) return;
    collector_ = off ? std::nullopt : std::make_optional(std::move(parsed));
    ++changes_;
    if (off) {
      dropped_ += std::exchange(queued_, Batch()).count;
    } else if (!thread_.joinable()) {
      thread_ = std::thread([self = shared_from_this()] { self->Run(); });
    }
    wake_.notify_all();  // The pause before another attempt ends.
  }

  bool MakeRoom() {
    MutexLock lock(&mu_);
    if (!stopping_ && collector_.has_value() &&
        queued_.spans.size() < options_.max_queued_bytes) {
      return true;
    }
    ++dropped_;
    return false;
  }

  void Add(std::string_view span) {
    MutexLock lock(&mu_);
    if (stopping_ || !collector_.has_value() ||
        queued_.spans.size() + span.size() > options_.max_queued_bytes) {
      ++dropped_;
      return;
    }
    const size_t before = queued_.spans.size();
    queued_.Add(span);
    if (before == 0 || (before < options_.batch_bytes &&
                        queued_.spans.size() >= options_.batch_bytes)) {
      wake_.notify_all();
    }
  }

  void Stop(Duration bound) {
    std::thread thread;
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      wake_.notify_all();
      thread = std::move(thread_);
    }
    if (!thread.joinable()) return;
    bool ended = AwaitEnd(bound);
    if (!ended) {
      client_.GiveUp();
      ended = AwaitEnd(std::chrono::milliseconds(200));
    }
    // A thread that still waits for the system's resolver ends after it.
    ended ? thread.join() : thread.detach();
  }

  Counts counts() const {
    MutexLock lock(&mu_);
    return {.sent = sent_, .dropped = dropped_, .refused = refused_};
  }

 private:
  bool AwaitEnd(Duration bound) {
    const Instant until = MonotonicNow() + bound;
    MutexLock lock(&mu_);
    while (!ended_ && MonotonicNow() < until) lock.WaitUntil(&end_, until);
    return ended_;
  }

  void Run() {
    pthread_setname_np(pthread_self(), "hotline-traces");
    Batch batch;
    ParsedUrl url;
    Duration pause = options_.first_pause;
    while (Take(&batch, &url)) {
      if (Send(url, batch)) {
        batch = Batch();
        pause = options_.first_pause;
      } else if (!Pause(pause)) {
        break;
      } else {
        pause = std::min(2 * pause, kMaxPause);
      }
    }
    MutexLock lock(&mu_);
    ended_ = true;
    end_.notify_all();
  }

  // Fills an empty batch with what is queued, once it is due. False: it is
  // empty, because the exporter is stopping.
  bool Take(Batch* batch, ParsedUrl* url) {
    MutexLock lock(&mu_);
    while (true) {
      if (!collector_.has_value()) {
        dropped_ += std::exchange(*batch, Batch()).count;
      }
      if (batch->count > 0) break;
      while (queued_.count == 0 && !stopping_) lock.Wait(&wake_);
      const Instant due = MonotonicNow() + options_.batch_interval;
      while (queued_.spans.size() < options_.batch_bytes && !stopping_ &&
             MonotonicNow() < due) {
        lock.WaitUntil(&wake_, due);
      }
      *batch = std::exchange(queued_, Batch());
      if (batch->count == 0 && stopping_) return false;
    }
    *url = *collector_;
    tried_ = changes_;
    return true;
  }

  // False: the batch is to be sent again.
  bool Send(const ParsedUrl& url, const Batch& batch) {
    std::string error;
    const unsigned status = client_.Post(
        url, EncodeRequest(options_.instance, batch.spans), &error);
    const bool sent = status / 100 == 2;
    const bool lost = !sent && status != 0 && !IsTransient(status);
    if (!sent) {
      static LogLimiter limiter(std::chrono::seconds(60));
      HOTLINE_LOG_LIMITED(limiter, kWarning, "spans were not accepted",
                          {{"collector", url.authority},
                           {"status", status},
                           {"error", error},
                           {"suppressed", limiter.TakeSuppressed()}});
    }
    MutexLock lock(&mu_);
    if (sent) sent_ += batch.count;
    if (lost) refused_ += batch.count;
    return sent || lost;
  }

  // False: the exporter is stopping. Ends when the collector is another one
  // than Take found.
  bool Pause(Duration pause) {
    const Instant until = MonotonicNow() + pause;
    MutexLock lock(&mu_);
    while (!stopping_ && changes_ == tried_ && MonotonicNow() < until) {
      lock.WaitUntil(&wake_, until);
    }
    return !stopping_;
  }

  const Options options_;
  CollectorClient client_;

  mutable Mutex mu_;
  std::condition_variable wake_;
  std::condition_variable end_;
  std::optional<ParsedUrl> collector_ ABSL_GUARDED_BY(mu_);
  uint64_t changes_ ABSL_GUARDED_BY(mu_) = 0;  // Of collector_.
  uint64_t tried_ ABSL_GUARDED_BY(mu_) = 0;    // As of the last Take.
  Batch queued_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // Run has.
  std::thread thread_ ABSL_GUARDED_BY(mu_);
  uint64_t sent_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t dropped_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t refused_ ABSL_GUARDED_BY(mu_) = 0;
};

SpanExporter::SpanExporter(Options options)
    : impl_(std::make_shared<Impl>(std::move(options))) {}

SpanExporter::~SpanExporter() { Stop(); }

void SpanExporter::SetCollector(std::string_view url) {
  impl_->SetCollector(url);
}
bool SpanExporter::MakeRoom() { return impl_->MakeRoom(); }
void SpanExporter::Add(std::string_view span) { impl_->Add(span); }
void SpanExporter::Stop(Duration bound) { impl_->Stop(bound); }
SpanExporter::Counts SpanExporter::counts() const { return impl_->counts(); }

}  // namespace hotline::server
