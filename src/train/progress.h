// What a person at a terminal sees: lines, and below them one line that is redrawn as the run goes.
//
// A log line and the bar below it leave in one system call, so that neither is torn and nothing
// flickers. Nothing is left behind: the destructor takes the bar away, and an error's unwinding
// passes through it. No colour, no moving about but to the start of the line. One thread;
// allocates nothing.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>

namespace sluice {

// Where a run is. Numbers that are not finite are not known and not shown.
struct Progress {
  std::int64_t step = 0, steps = 0;
  double loss = 0;  // nats
  double tokens_per_second = 0;
  double utilization = 0;  // MFU, 0 … 1
  double seconds_left = 0;
};

// "step 12/100 [====      ]  12% | loss 3.1416 | 171.2k tok/s | 52.5% MFU | eta 1:02:03" in `out`,
// at most `columns` wide: what finds no room is left out, from the right, the bar last. ASCII.
std::string_view progress_line(std::span<char> out, int columns, const Progress& progress);

// "1:02:03"; "?" for what is no time.
std::string_view clock_text(std::span<char> out, double seconds);

class Console {
 public:
  using Clock = std::chrono::steady_clock;
  // Writes to `file`, which stays open. Without `bar` it only writes lines.
  Console(int file, bool bar) : file_(file), bar_(bar) {}
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  bool has_bar() const { return bar_; }
  // Text without its last newline, above the bar, which is redrawn. What cannot be written is lost.
  void line(std::string_view text, Clock::time_point now = Clock::now());
  // What the bar says from its next redraw on.
  void set(const Progress& progress) { progress_ = progress, known_ = true; }
  // At most ten times a second, unless `at_once`.
  void redraw(bool at_once, Clock::time_point now = Clock::now());
  void clear();

 private:
  std::string_view draw(Clock::time_point now);
  void write(std::string_view a, std::string_view b, std::string_view c, std::string_view d);

  int file_;
  bool bar_;
  bool drawn_ = false;
  bool known_ = false;  // set() was called
  Progress progress_;
  Clock::time_point drawn_at_;
  std::array<char, 512> buffer_;
};

}  // namespace sluice
