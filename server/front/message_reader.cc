// The messages of a request's body.
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/front/grpc_wire.h"

namespace hotline::server {
namespace {

// Reserved at once; what is larger grows as it comes.
constexpr size_t kEarlyBytes = 64 << 10;
// Kept between two messages of a call.
constexpr size_t kSpareBytes = 256 << 10;
// In which a message is measured, and small ones are inflated.
constexpr size_t kScratchBytes = 32 << 10;

uint32_t LengthIn(std::string_view prefix) {
  const auto byte = [prefix](size_t i) {
    return static_cast<uint32_t>(static_cast<unsigned char>(prefix[i]));
  };
  return byte(1) << 24 | byte(2) << 16 | byte(3) << 8 | byte(4);
}

}  // namespace

// Inflates whole messages. A message is measured before memory is taken for it,
// so one that is too large costs a window and no more.
class MessageReader::Inflater {
 public:
  explicit Inflater(GrpcEncoding encoding) {
    constexpr int kWindowBits = 15;
    constexpr int kGzip = 16;  // zlib's way to ask for it.
    const int bits =
        encoding == GrpcEncoding::kGzip ? kWindowBits + kGzip : kWindowBits;
    ready_ = inflateInit2(&stream_, bits) == Z_OK;
  }
  Inflater(const Inflater&) = delete;
  ~Inflater() {
    if (ready_) inflateEnd(&stream_);
  }

  absl::Status Inflate(std::string_view bytes, size_t most, std::string* out) {
    if (!ready_) return absl::ResourceExhaustedError("no memory for zlib");
    Begin(bytes);
    out->resize(std::min(most, kScratchBytes));
    size_t size = 0;
    bool over = false;
    bool whole = true;  // All of it is in `out`.
    int result = Z_OK;
    for (; result == Z_OK && !over; whole = whole && result == Z_STREAM_END) {
      // Past the limit for one byte more, to see the end.
      char beyond = 0;
      const bool full = size == most;
      const size_t room = full ? 1 : std::min(out->size(), most - size);
      result = Step(full ? &beyond : out->data(), room);
      size += room - stream_.avail_out;
      over = size > most;
      if (result == Z_OK && stream_.avail_out > 0) return Broken();
    }
    if (over) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the message inflates to more than the limit of ", most, " bytes"));
    }
    if (result != Z_STREAM_END || stream_.avail_in > 0) return Broken();
    out->resize(size);
    if (whole) return absl::OkStatus();
    Begin(bytes);
    return Step(out->data(), size) == Z_STREAM_END ? absl::OkStatus()
                                                   : Broken();
  }

 private:
  void Begin(std::string_view bytes) {
    inflateReset(&stream_);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<uInt>(bytes.size());
  }
  int Step(char* to, size_t size) {
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(size);
    return inflate(&stream_, Z_NO_FLUSH);
  }
  static absl::Status Broken() {
    return absl::InternalError("the message cannot be decompressed");
  }

  z_stream stream_ = {};
  bool ready_ = false;
};

MessageReader::MessageReader(GrpcEncoding encoding, size_t max_message_bytes)
    : encoding_(encoding), max_message_bytes_(max_message_bytes) {}

MessageReader::~MessageReader() = default;

MessageReader::Result MessageReader::Fail(absl::StatusCode code,
                                          std::string text) {
  status_ = absl::Status(code, text);
  input_ = {};
  std::string().swap(buffer_);
  std::string().swap(message_);
  return Result::kFailed;
}

void MessageReader::Add(std::string_view bytes) {
  if (input_.empty()) {
    input_ = bytes;
    input_kept_ = false;
    kept_.clear();
    if (kept_.capacity() > kSpareBytes) std::string().swap(kept_);
    return;
  }
  Keep();
  size_t used = input_.data() - kept_.data();
  if (used > kept_.size() / 2) {
    kept_.erase(0, used);
    used = 0;
  }
  kept_.append(bytes);
  input_ = std::string_view(kept_).substr(used);
}

void MessageReader::Keep() {
  if (input_.empty() || input_kept_) return;
  kept_.assign(input_);
  input_ = kept_;
  input_kept_ = true;
}

MessageReader::Result MessageReader::TakePrefix(std::string_view prefix,
                                                size_t* length) {
  const char flag = prefix[0];
  if (flag != 0 && flag != 1) {
    return Fail(absl::StatusCode::kInternal, "a message's flag is not 0 or 1");
  }
  compressed_ = flag == 1;
  if (compressed_ && encoding_ == GrpcEncoding::kIdentity) {
    return Fail(absl::StatusCode::kInternal,
                "a message is compressed, and there is no grpc-encoding");
  }
  *length = LengthIn(prefix);
  if (*length > max_message_bytes_) {
    return Fail(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat("a message of ", *length, " bytes is over the limit of ",
                     max_message_bytes_, " bytes"));
  }
  return Result::kMessage;
}

MessageReader::Result MessageReader::Give(std::string_view payload,
                                          std::string_view* message) {
  *message = payload;
  if (!compressed_) return Result::kMessage;
  if (inflater_ == nullptr) inflater_ = std::make_unique<Inflater>(encoding_);
  const absl::Status inflated =
      inflater_->Inflate(payload, max_message_bytes_, &message_);
  if (!inflated.ok()) {
    return Fail(inflated.code(), std::string(inflated.message()));
  }
  *message = message_;
  return Result::kMessage;
}

MessageReader::Result MessageReader::Next(std::string_view* message) {
  if (!status_.ok()) return Result::kFailed;
  if (std::exchange(given_, false)) {
    buffer_.clear();
    if (buffer_.capacity() > kSpareBytes) std::string().swap(buffer_);
  }
  if (message_.capacity() > kSpareBytes) std::string().swap(message_);
  size_t length = 0;
  if (buffer_.empty() && input_.size() >= kPrefixBytes) {
    // The usual: it has come in one piece.
    if (TakePrefix(input_, &length) == Result::kFailed) return Result::kFailed;
    if (input_.size() - kPrefixBytes >= length) {
      const std::string_view payload = input_.substr(kPrefixBytes, length);
      input_.remove_prefix(kPrefixBytes + length);
      return Give(payload, message);
    }
    buffer_.reserve(kPrefixBytes + std::min(length, kEarlyBytes));
  }
  const auto take = [this](size_t until) {
    const size_t part = std::min(input_.size(), until - buffer_.size());
    buffer_.append(input_.substr(0, part));
    input_.remove_prefix(part);
    return buffer_.size() == until;
  };
  if (buffer_.size() < kPrefixBytes && !take(kPrefixBytes)) {
    return Result::kNeedMore;
  }
  if (TakePrefix(buffer_, &length) == Result::kFailed) return Result::kFailed;
  if (!take(kPrefixBytes + length)) return Result::kNeedMore;
  given_ = true;
  return Give(std::string_view(buffer_).substr(kPrefixBytes), message);
}

absl::Status MessageReader::Finish() const {
  if (!status_.ok()) return status_;
  if (input_.empty() && (given_ || buffer_.empty())) return absl::OkStatus();
  return absl::InternalError("the request ends inside a message");
}

}  // namespace hotline::server
