// `hotline top`.
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/text.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/interrupt.h"
#include "client/cli/read_stats.h"
#include "client/cli/top_view.h"

namespace hotline::client {
namespace {

constexpr Duration kShortestInterval = std::chrono::milliseconds(100);
constexpr Duration kShortestTimeout = std::chrono::seconds(5);
constexpr size_t kLeastColumns = 40;

struct TopOptions {
  std::string interval = "1s";
  std::string sort = "problems";
  int64_t count = 0;  // 0: no limit.
};

// The terminal's second screen, with single keys as input, while it exists.
// Nothing if the output is no terminal.
class Screen {
 public:
  explicit Screen(const Io& io) : io_(io) {
    if (!io_.terminal_out) return;
    io_.out << "\033[?1049h\033[?25l" << std::flush;
    keys_ = io_.in_fd >= 0 && tcgetattr(io_.in_fd, &before_) == 0;
    if (!keys_) return;
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(io_.in_fd, TCSANOW, &raw);
  }
  ~Screen() {
    if (keys_) tcsetattr(io_.in_fd, TCSANOW, &before_);
    if (io_.terminal_out) io_.out << "\033[?25h\033[?1049l" << std::flush;
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // Readable when a key was pressed; -1: there are no keys.
  int keys() const { return keys_ ? io_.in_fd : -1; }

  void Size(size_t* columns, size_t* lines) const {
    winsize size = {};
    if (io_.terminal_out && ioctl(io_.out_fd, TIOCGWINSZ, &size) == 0 &&
        size.ws_col > 0) {
      *columns = size.ws_col;
      *lines = size.ws_row;
    } else if (const char* text = std::getenv("COLUMNS");
               text == nullptr || !absl::SimpleAtoi(text, columns)) {
      *columns = 80;
    }
    *columns = std::max(*columns, kLeastColumns);
  }

  void Draw(const std::string& text) {
    if (io_.terminal_out) {
      // Overwriting flickers less than clearing.
      io_.out << "\033[H" << absl::StrReplaceAll(text, {{"\n", "\033[K\n"}})
              << "\033[K\033[J" << std::flush;
      return;
    }
    io_.out << (drawn_ ? "\n" : "") << text << "\n" << std::flush;
    drawn_ = true;
  }

 private:
  const Io& io_;
  termios before_ = {};
  bool keys_ = false;
  bool drawn_ = false;
};

class Top {
 public:
  Top(const TopOptions& options, BrokerClient& client, const Run& run)
      : client_(client),
        run_(run),
        interval_(
            std::max(*ParseDuration(options.interval), kShortestInterval)),
        count_(options.count),
        sort_(options.sort) {}

  // Until q, Ctrl-C, or the last update. Later errors are shown, and do not
  // end it: the broker may be back soon.
  int Show() {
    if (absl::Status first = Poll(); !first.ok()) return run_.Fail(first);
    const Interruptible interruptible;
    Screen screen(run_.io);
    for (int64_t shown = 1; run_.io.out.good(); ++shown) {
      const Instant next = MonotonicNow() + interval_;
      do {
        Draw(screen);
        if (shown == count_) return kExitOk;
        interruptible.Wait(next - MonotonicNow(), screen.keys());
        if (interruptible.flag() || !ReadKeys(screen.keys())) return kExitOk;
      } while (MonotonicNow() < next);
      error_ = Poll();
    }
    return kExitOk;
  }

 private:
  absl::Status Poll() {
    CallOptions call = run_.Call();
    if (!call.timeout) call.timeout = std::max(interval_, kShortestTimeout);
    auto stats = ReadStats(client_, {}, call);
    if (!stats.ok()) return stats.status();
    const Instant now = MonotonicNow();
    before_ = std::move(now_);
    between_ = now - polled_;
    now_ = *std::move(stats);
    polled_ = now;
    return absl::OkStatus();
  }

  // False: q was pressed.
  bool ReadKeys(int fd) {
    char keys[64];
    pollfd ready = {fd, POLLIN, 0};
    if (fd < 0 || poll(&ready, 1, 0) <= 0) return true;
    const ssize_t size = read(fd, keys, sizeof keys);
    if (size <= 0) return false;  // The terminal is gone.
    for (const char key : std::string_view(keys, static_cast<size_t>(size))) {
      if (key == 'q') return false;
      for (const std::string& name : TopSortKeys()) {
        if (name[0] == key) sort_ = name;
      }
    }
    return true;
  }

  void Draw(Screen& screen) {
    size_t columns = 80, lines = 0;
    screen.Size(&columns, &lines);
    // One line for the keys, or for an error.
    const size_t rows = lines > 1 ? lines - 1 : 0;
    std::string text =
        FormatTop({.now = *now_,
                   .before = before_.has_value() ? &*before_ : nullptr,
                   .between = between_,
                   .wall = std::chrono::system_clock::now().time_since_epoch(),
                   .sort = sort_,
                   .columns = columns,
                   .lines = rows,
                   .color = run_.io.color_out});
    if (!error_.ok()) {
      std::string error = FormatError(error_, run_.address);
      error.resize(error.find('\n'));
      absl::StrAppend(&text, "\n", std::string(CutUtf8(error, columns)));
    } else if (run_.io.terminal_out) {
      absl::StrAppend(&text, "\n", Keys().substr(0, columns));
    }
    screen.Draw(text);
  }

  // "by problems  [p]roblems [t]arget …  [q]uit"
  std::string Keys() const {
    std::string text = absl::StrCat("by ", sort_, " ");
    for (const std::string& name : TopSortKeys()) {
      absl::StrAppend(&text, " [", name.substr(0, 1), "]", name.substr(1));
    }
    return text + " [q]uit";
  }

  BrokerClient& client_;
  const Run& run_;
  const Duration interval_;
  const int64_t count_;
  std::string sort_;
  std::optional<v1::StatsResponse> now_;
  std::optional<v1::StatsResponse> before_;
  Instant polled_{};
  Duration between_{};
  absl::Status error_;
};

}  // namespace

void AddTop(CLI::App& app, Run& run) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* command = app.add_subcommand(
      "top", "Watch the targets live, those with problems first");
  command
      ->add_option("--sort", options->sort,
                   "problems: the worst first. Others: the highest first; the "
                   "key of its first letter changes it")
      ->type_name("")
      ->check(CLI::IsMember(TopSortKeys()))
      ->capture_default_str();
  command
      ->add_option("--interval", options->interval,
                   "The time between two updates, at least 100ms")
      ->type_name("TIME")
      ->check(IsDuration())
      ->capture_default_str();
  command->add_option("-n,--count", options->count, "End after so many updates")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000'000}));
  command->footer(Examples(
      "  hotline top\n"
      "  hotline top --sort waiters --interval 5s\n"
      "  COLUMNS=200 hotline top -n 2 | tail -n +5\n"
      "\nq or Ctrl-C ends it. As many columns as fit are shown; without a "
      "terminal COLUMNS says how wide it is (default: 80). Rates are those "
      "since the update before, so the first one has none. --max-time applies "
      "to each update.\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] {
      auto client = run.Connect();
      if (!client.ok()) return run.Fail(client.status());
      return Top(*options, **client, run).Show();
    };
  });
}

}  // namespace hotline::client
