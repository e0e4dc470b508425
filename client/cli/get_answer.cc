// The output of the answer of `hotline get`.
#include <charconv>
#include <optional>

#include "base/text.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/get.h"

namespace hotline::client {
namespace {

// The length that the answer announces.
std::optional<uint64_t> LengthOf(
    const google::protobuf::RepeatedPtrField<v1::Header>& headers) {
  for (const v1::Header& header : headers) {
    if (header.name() != "content-length") continue;
    const std::string& value = header.value();
    uint64_t length = 0;
    const auto parsed =
        std::from_chars(value.data(), value.data() + value.size(), length);
    if (parsed.ec == std::errc()) return length;
  }
  return std::nullopt;
}

}  // namespace

// No progress bar if the answer itself goes to the terminal.
AnswerWriter::AnswerWriter(const GetOptions& get, const Run& run)
    : get_(get),
      run_(run),
      progress_(run.io.terminal_err && (!to_stdout() || !run.io.terminal_out)
                    ? &run.io.err
                    : nullptr),
      escaped_(get.output.empty() && run.io.terminal_out) {}

std::ostream& AnswerWriter::out() { return to_stdout() ? run_.io.out : file_; }

bool AnswerWriter::OnHead(
    int status, const google::protobuf::RepeatedPtrField<v1::Header>& headers) {
  status_ = status;
  refused_ = get_.fail && status >= 400;
  if (refused_) {
    run_.io.err << "hotline: the upstream answered " << status << "\n";
    return true;  // The receipt follows.
  }
  progress_.Start(LengthOf(headers), MonotonicNow());
  if (!to_stdout()) {
    file_.open(get_.output, std::ios::binary | std::ios::trunc);
  }
  if (get_.include_head || get_.head_only) {
    out() << "HTTP/1.1 " << status << "\r\n";
    for (const v1::Header& header : headers) {
      out() << Printable(header.name()) << ": " << Printable(header.value())
            << "\r\n";
    }
    out() << "\r\n";
  }
  return OnBody("");
}

bool AnswerWriter::OnBody(std::string_view piece) {
  size_ += piece.size();
  if (refused_) return true;
  if (escaped_) {
    Show(piece, /*last=*/false);
  } else {
    out().write(piece.data(), static_cast<std::streamsize>(piece.size()));
  }
  broken_ = !out().good();
  progress_.Update(size_, MonotonicNow());
  return !broken_;
}

void AnswerWriter::Show(std::string_view piece, bool last) {
  unshown_ += piece;
  const size_t end = unshown_.size() - (last ? 0 : UnfinishedEnd(unshown_));
  std::string shown;
  AppendEscaped(&shown, std::string_view(unshown_).substr(0, end),
                Escape::kLines);
  unshown_.erase(0, end);
  out() << shown;
}

int AnswerWriter::Failure() const {
  if (!broken_) return kExitOk;
  run_.io.err << "hotline: cannot write "
              << (to_stdout() ? "the output" : Printable(get_.output)) << "\n";
  return kExitFailed;
}

int AnswerWriter::Finish(const v1::Receipt& receipt, bool truncated) {
  progress_.Clear();
  if (escaped_ && !refused_) Show("", /*last=*/true);
  if (!refused_ && !to_stdout()) {
    file_.close();
    broken_ = broken_ || !file_;
  }
  if (const int failure = Failure(); failure != kExitOk) return failure;
  if (truncated) {
    run_.io.err << "hotline: the body was cut at " << size_ << " bytes\n";
  }
  if (get_.receipt) {
    run_.io.out.flush();
    run_.io.err << "status     " << status_ << ", " << size_ << " bytes\n"
                << FormatReceipt(receipt);
  }
  return refused_ ? kExitHttpError : kExitOk;
}

}  // namespace hotline::client
