#include "train/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace sluice {
namespace {

using std::chrono::milliseconds;

constexpr Progress halfway = {50, 100, 3.14159, 171'234, 0.525, 3723};

std::string drawn(int columns, const Progress& progress) {
  std::array<char, 512> buffer;
  return std::string(progress_line(buffer, columns, progress));
}

TEST(Progress, WideLineSaysEverything) {
  EXPECT_EQ(
      drawn(120, halfway),
      "step 50/100 [===============               ]  50% | loss 3.1416 | 171.2k tok/s | 52.5% "
      "MFU | eta 1:02:03");
  EXPECT_EQ(drawn(79, halfway),
            "step 50/100 [==   ]  50% | loss 3.1416 | 171.2k tok/s | 52.5% MFU | eta 1:02:03");
}

TEST(Progress, NarrowLineLeavesOutFromTheRight) {
  EXPECT_EQ(drawn(60, halfway), "step 50/100 [======      ]  50% | loss 3.1416 | 171.2k tok/s");
  EXPECT_EQ(drawn(24, halfway), "step 50/100 [==   ]  50%");
  EXPECT_EQ(drawn(23, halfway), "step 50/100  50%");
  EXPECT_EQ(drawn(15, halfway), "step 50/100");
  EXPECT_EQ(drawn(4, halfway), "step");
  EXPECT_EQ(drawn(0, halfway), "");
  EXPECT_EQ(drawn(-3, halfway), "");
}

TEST(Progress, NoWidthIsExceeded) {
  for (int columns = 0; columns < 700; ++columns)
    for (const std::int64_t steps : {1, 100, 1'000'000'000}) {
      Progress p = halfway;
      p.steps = steps;
      const std::string line = drawn(columns, p);
      EXPECT_LE(line.size(), static_cast<std::size_t>(columns));
      EXPECT_EQ(line.find_first_of("\r\n\x1b"), std::string::npos);
    }
}

TEST(Progress, FillsFromNoneToAll) {
  Progress p = {0, 200, 1, 1, 1, 0};
  EXPECT_NE(drawn(40, p).find("[        ]   0% | loss 1.0000"), std::string::npos);
  p.step = 199;
  EXPECT_NE(drawn(40, p).find(" 99%"), std::string::npos) << "100% is the end";
  p.step = 200;
  EXPECT_NE(drawn(40, p).find("[======] 100%"), std::string::npos) << drawn(40, p);
  p.step = 300;
  EXPECT_NE(drawn(40, p).find(" 100%"), std::string::npos);
  p.steps = 0;
  EXPECT_NE(drawn(40, p).find(" 0%"), std::string::npos);
}

TEST(Progress, WhatIsNotKnownIsNotShown) {
  const double nan = std::nan("");
  EXPECT_EQ(drawn(60, {1, 2, nan, nan, nan, nan}),
            "step 1/2 [===============               ]  50% | eta ?");
  EXPECT_EQ(drawn(52, {1, 2, INFINITY, 9999, -INFINITY, 1e300}),
            "step 1/2 [=======        ]  50% | 9999 tok/s | eta ?");
}

TEST(Progress, ClockOfAnySeconds) {
  std::array<char, 24> buffer;
  EXPECT_EQ(clock_text(buffer, 59.9), "0:00:59");
  EXPECT_EQ(clock_text(buffer, 360000), "100:00:00");
  EXPECT_EQ(clock_text(buffer, -1), "?");
  EXPECT_EQ(clock_text(buffer, std::numeric_limits<double>::max()), "?");
}

// What a console wrote; no terminal, so 80 columns.
class Written {
 public:
  Written() {
    int ends[2];
    if (::pipe2(ends, O_NONBLOCK) != 0) throw std::runtime_error("no pipe");
    from_ = ends[0], to_ = ends[1];
  }
  ~Written() {
    ::close(from_);
    ::close(to_);
  }
  int file() const { return to_; }
  std::string take() {
    std::string out(4096, '\0');
    const ssize_t got = ::read(from_, out.data(), out.size());
    out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return out;
  }

 private:
  int from_, to_;
};

const std::string erase = "\r\x1b[K";

TEST(Console, WithoutABarThereAreOnlyLines) {
  Written written;
  {
    Console console(written.file(), false);
    console.set(halfway);
    console.redraw(true);
    console.line("a line");
    console.clear();
  }
  EXPECT_EQ(written.take(), "a line\n");
}

TEST(Console, LinesGoAboveTheBarAndNothingIsLeft) {
  Written written;
  const std::string bar = drawn(79, halfway);
  {
    Console console(written.file(), true);
    console.line("first");
    EXPECT_EQ(written.take(), "first\n");
    console.set(halfway);
    console.redraw(false);
    EXPECT_EQ(written.take(), erase + bar);
    console.line("second");
    EXPECT_EQ(written.take(), erase + "second\n" + bar);
  }
  EXPECT_EQ(written.take(), erase);
}

TEST(Console, TenRedrawsASecond) {
  Written written;
  Console console(written.file(), true);
  const auto start = Console::Clock::time_point() + std::chrono::hours(1);
  console.set(halfway);
  int redraws = 0;
  for (int ms = 0; ms < 1000; ++ms) {
    console.redraw(false, start + milliseconds(ms));
    redraws += written.take().empty() ? 0 : 1;
  }
  EXPECT_EQ(redraws, 10);
  console.line("a line redraws it too", start + milliseconds(1000));
  written.take();
  console.redraw(false, start + milliseconds(1050));
  EXPECT_EQ(written.take(), "");
  console.redraw(true, start + milliseconds(1050));
  EXPECT_NE(written.take(), "");
}

TEST(Console, AnErrorOnTheWayLeavesNothing) {
  Written written;
  try {
    Console console(written.file(), true);
    console.set(halfway);
    console.redraw(true);
    throw std::runtime_error("out");
  } catch (const std::runtime_error&) {
  }
  const std::string all = written.take();
  EXPECT_TRUE(all.ends_with("eta 1:02:03" + erase)) << all;
}

TEST(Console, AFullPipeDoesNotStopIt) {
  Written written;
  Console console(written.file(), true);
  const std::string line(1 << 20, 'x');
  console.line(line);  // the pipe takes a part, then nothing
  console.set(halfway);
  console.redraw(true);
  EXPECT_EQ(written.take(), std::string(4096, 'x'));
}

}  // namespace
}  // namespace sluice
