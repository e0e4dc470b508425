#include "upstream/codec/raw_codec.h"

#include <algorithm>
#include <cassert>
#include <string>
#include <utility>

#include "upstream/codec/stream_output.h"

namespace hotline::upstream {
namespace {

// As if every tunnel had been asked for with an Upgrade.
constexpr int kOpened = 101;

class RawCodec final : public Codec {
 public:
  RawCodec(CodecEvents* events, const RawLimits& limits)
      : events_(events),
        max_unconsumed_(std::max<size_t>(limits.max_unconsumed_bytes, 1)) {}

  // Continues the stream of another codec.
  void Continue(StreamId stream) {
    traits_.opaque = false;
    phase_ = Phase::kOpen;
    stream_ = stream;
    head_reported_ = true;
    answered_ = true;  // By the head.
  }

  Traits traits() const override { return traits_; }
  StreamId Submit(const Request& request) override {
    return OpenStream(request, /*end=*/true);
  }
  StreamId OpenStream(const Request& head, bool end) override;
  size_t Send(StreamId stream, std::string_view piece, bool end) override;
  void Consume(StreamId stream, size_t bytes) override {
    if (stream == stream_) unconsumed_ -= std::min(bytes, unconsumed_);
  }
  bool CanSubmit() const override { return phase_ == Phase::kIdle; }
  size_t open_streams() const override { return stream_ != 0 ? 1 : 0; }
  Verdict VerdictOf(StreamId stream) const override;
  bool Feed(std::string_view bytes) override;
  void FeedEof() override;
  void Cancel(StreamId stream) override;
  bool WantsRead() const override { return unconsumed_ < max_unconsumed_; }
  void TakeOutput(std::string* out) override;
  bool WantsWrite() const override { return !output_.bytes.empty(); }
  void OnWritten(size_t bytes) override { written_ += bytes; }
  bool WantsEnd() const override {
    return stream_ != 0 && ended_ && output_.bytes.empty() && !end_written_;
  }
  void OnEndWritten() override;
  bool OutlivesEof() const override { return stream_ != 0; }
  const Error& error() const override { return error_; }

 private:
  enum class Phase : uint8_t {
    kIdle,    // Not used yet.
    kOpen,    // The tunnel runs.
    kClosed,  // It is over.
  };

  void Give(std::string_view bytes);
  void Complete();
  void Close(std::string message);

  CodecEvents* const events_;
  const size_t max_unconsumed_;
  Traits traits_{.opaque = true, .tunnel = true};

  Phase phase_ = Phase::kIdle;
  StreamId stream_ = 0;  // 0: none is open.
  Error error_;

  // Outwards.
  StreamOutput output_;
  uint64_t sent_ = 0;         // Given to Send.
  uint64_t written_ = 0;      // Of those.
  bool ended_ = false;        // Nothing more will be sent.
  bool end_written_ = false;  // The peer was sent the end.

  // Inwards.
  std::string early_;      // What came before the stream.
  size_t unconsumed_ = 0;  // early_ included.
  bool head_reported_ = false;
  bool answered_ = false;  // A byte has come.
  bool peer_ended_ = false;
};

StreamId RawCodec::OpenStream(const Request&, bool end) {
  assert(CanSubmit());
  phase_ = Phase::kOpen;
  stream_ = 1;
  ended_ = end;
  return stream_;
}

size_t RawCodec::Send(StreamId stream, std::string_view piece, bool end) {
  if (stream == 0 || stream != stream_ || ended_) return 0;
  output_.bytes.append(piece);
  sent_ += piece.size();
  ended_ = end;
  return output_.Held();
}

void RawCodec::TakeOutput(std::string* out) {
  if (output_.TakeTo(out) && stream_ != 0) events_->OnSendable(stream_);
}

Verdict RawCodec::VerdictOf(StreamId) const {
  if (answered_) return Verdict::kResponseStarted;
  if (written_ == 0) return Verdict::kNotSent;
  return written_ < sent_ || !ended_ ? Verdict::kPartial
                                     : Verdict::kSentUnknown;
}

bool RawCodec::Feed(std::string_view bytes) {
  if (phase_ == Phase::kClosed) return false;
  if (phase_ == Phase::kIdle) {
    early_.append(bytes);
    unconsumed_ += bytes.size();
    return true;
  }
  if (!std::exchange(head_reported_, true)) {
    events_->OnHead(stream_, kOpened, {});
    const std::string early = std::exchange(early_, {});
    unconsumed_ -= early.size();
    Give(early);
  }
  Give(bytes);
  return phase_ != Phase::kClosed;
}

void RawCodec::Give(std::string_view bytes) {
  if (bytes.empty() || stream_ == 0) return;
  answered_ = true;
  unconsumed_ += bytes.size();
  events_->OnBody(stream_, bytes);
}

void RawCodec::FeedEof() {
  if (phase_ != Phase::kOpen) {
    return Close("the upstream closed the connection");
  }
  if (std::exchange(peer_ended_, true)) return;
  // The tunnel is open by its end, too.
  Feed({});
  if (stream_ == 0) return;
  if (end_written_) {
    Complete();
  } else {
    events_->OnTrailers(stream_, {});
  }
}

void RawCodec::OnEndWritten() {
  end_written_ = true;
  if (peer_ended_ && stream_ != 0) Complete();
}

void RawCodec::Complete() {
  const StreamId stream = std::exchange(stream_, 0);
  Close("the tunnel has ended");
  events_->OnComplete(stream);
}

void RawCodec::Cancel(StreamId stream) {
  if (stream == 0 || stream != stream_) return;
  stream_ = 0;
  Close("the tunnel was cancelled");
}

void RawCodec::Close(std::string message) {
  phase_ = Phase::kClosed;
  output_.bytes.clear();
  if (error_.message.empty()) error_.message = std::move(message);
}

}  // namespace

std::unique_ptr<Codec> MakeRawCodec(CodecEvents* events,
                                    const RawLimits& limits) {
  return std::make_unique<RawCodec>(events, limits);
}

std::unique_ptr<Codec> MakeUpgradedCodec(CodecEvents* events, StreamId stream,
                                         const RawLimits& limits) {
  auto codec = std::make_unique<RawCodec>(events, limits);
  codec->Continue(stream);
  return codec;
}

}  // namespace hotline::upstream
