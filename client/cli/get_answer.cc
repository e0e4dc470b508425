// The output of the answer of `hotline get`.
#include <charconv>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/text.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/get.h"
#include "client/cli/write_out.h"

namespace hotline::client {
namespace {

// The length that the answer announces.
std::optional<uint64_t> LengthOf(const Headers& headers) {
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

// Each with its prefix: "> " or "< ".
void ShowHeaders(const Headers& headers, const char* prefix, const Run& run) {
  for (const v1::Header& header : headers) {
    run.io.err << prefix << Printable(header.name()) << ": "
               << Printable(header.value()) << "\n";
  }
  run.io.err << prefix << "\n";
}

}  // namespace

void ShowRequest(const v1::ExecuteRequest& request, const Run& run) {
  run.io.err << "> " << Printable(request.method()) << " "
             << Printable(request.url()) << "\n";
  ShowHeaders(request.headers(), "> ", run);
}

// No progress bar if the answer itself goes to the terminal.
AnswerWriter::AnswerWriter(const GetOptions& get,
                           const v1::ExecuteRequest& request, bool append,
                           const Run& run)
    : get_(get),
      request_(request),
      append_(append),
      run_(run),
      progress_(run.io.terminal_err && (!to_stdout() || !run.io.terminal_out)
                    ? &run.io.err
                    : nullptr),
      escaped_(get.output.empty() && run.io.terminal_out) {}

std::ostream& AnswerWriter::out() { return to_stdout() ? run_.io.out : file_; }

bool AnswerWriter::OnHead(int status, const Headers& headers) {
  status_ = status;
  if (get_.verbose) {
    run_.io.err << "< " << status << "\n";
    ShowHeaders(headers, "< ", run_);
  }
  refused_ = get_.fail && status >= 400;
  if (refused_) {
    run_.io.err << "hotline: the upstream answered " << status << "\n";
    return true;  // The receipt follows.
  }
  progress_.Start(LengthOf(headers), MonotonicNow());
  if (!to_stdout()) {
    file_.open(get_.output,
               std::ios::binary | (append_ ? std::ios::app : std::ios::trunc));
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
    out() << shown_.Next(piece);
  } else {
    out().write(piece.data(), static_cast<std::streamsize>(piece.size()));
  }
  broken_ = !out().good();
  progress_.Update(size_, MonotonicNow());
  return !broken_;
}

int AnswerWriter::Failure() const {
  if (!broken_) return kExitOk;
  run_.io.err << "hotline: cannot write "
              << (to_stdout() ? "the output" : Printable(get_.output)) << "\n";
  return kExitFailed;
}

int AnswerWriter::Finish(const v1::Receipt& receipt, bool truncated) {
  progress_.Clear();
  if (escaped_ && !refused_) out() << shown_.End();
  if (!refused_ && !to_stdout()) {
    file_.close();
    broken_ = broken_ || !file_;
  }
  if (const int failure = Failure(); failure != kExitOk) return failure;
  if (truncated) {
    run_.io.err << "hotline: the body was cut at " << size_ << " bytes\n";
  }
  Report(receipt);
  return refused_ ? kExitHttpError : kExitOk;
}

void AnswerWriter::Report(const v1::Receipt& receipt) {
  if (get_.receipt || get_.verbose) {
    run_.io.out.flush();
    const std::string text = absl::StrCat("status     ", status_, ", ", size_,
                                          " bytes\n", FormatReceipt(receipt));
    run_.io.err << (get_.verbose ? "* " +
                                       absl::StrReplaceAll(
                                           text.substr(0, text.size() - 1),
                                           {{"\n", "\n* "}}) +
                                       "\n"
                                 : text);
  }
  run_.io.out << FormatWriteOut(get_.write_out,
                                {request_, status_, size_, receipt});
}

}  // namespace hotline::client
