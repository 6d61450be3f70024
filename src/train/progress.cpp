#include "train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

namespace sluice {
namespace {

constexpr std::string_view erase = "\r\x1b[K";  // to the line's start, then all of it away
constexpr auto least_pause = std::chrono::milliseconds(100);
constexpr int least_bar = 5, most_bar = 30;  // characters between the brackets

int columns_of(int file) {
  winsize size{};
  return ::ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// Text that ends with its buffer.
struct Text {
  std::array<char, 128> data;
  std::size_t size = 0;
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    const auto end = fmt::format_to_n(data.data() + size, data.size() - size, format,
                                      std::forward<Args>(args)...);
    size += std::min(end.size, data.size() - size);
  }
  std::string_view view() const { return {data.data(), size}; }
};

void add_rate(Text& text, double rate) {
  if (rate < 1e4)
    text.add(" | {:.0f} tok/s", rate);
  else if (rate < 1e7)
    text.add(" | {:.1f}k tok/s", rate / 1e3);
  else
    text.add(" | {:.1f}M tok/s", rate / 1e6);
}

}  // namespace

std::string_view clock_text(std::span<char> out, double seconds) {
  if (!(seconds >= 0 && seconds < 1e12)) {
    if (!out.empty()) out[0] = '?';
    return {out.data(), std::min<std::size_t>(out.size(), 1)};
  }
  const auto whole = static_cast<std::int64_t>(seconds);
  const auto end = fmt::format_to_n(out.data(), out.size(), "{}:{:02}:{:02}", whole / 3600,
                                    whole / 60 % 60, whole % 60);
  return {out.data(), std::min(end.size, out.size())};
}

std::string_view progress_line(std::span<char> out, int columns, const Progress& p) {
  const std::size_t width = std::min(out.size(), static_cast<std::size_t>(std::max(columns, 0)));
  const double done =
      p.steps > 0 ? std::clamp(static_cast<double>(p.step) / static_cast<double>(p.steps), 0.0, 1.0)
                  : 0.0;
  Text head, percent;
  head.add("step {}/{}", p.step, p.steps);
  percent.add(" {:3.0f}%", std::floor(100 * done));
  Text fields[4];
  if (std::isfinite(p.loss)) fields[0].add(" | loss {:.4f}", p.loss);
  if (std::isfinite(p.tokens_per_second)) add_rate(fields[1], p.tokens_per_second);
  if (std::isfinite(p.utilization)) fields[2].add(" | {:.1f}% MFU", 100 * p.utilization);
  std::array<char, 24> clock;
  fields[3].add(" | eta {}", clock_text(clock, p.seconds_left));

  std::size_t used = head.size + percent.size;
  if (used > width) {
    std::copy_n(head.data.data(), std::min(head.size, width), out.data());
    return {out.data(), std::min(head.size, width)};
  }
  constexpr std::size_t brackets = 3;  // and the blank before them
  std::size_t bar = 0;
  if (used + brackets + least_bar <= width) bar = least_bar, used += brackets + least_bar;
  std::size_t shown = 0;
  while (shown < std::size(fields) && used + fields[shown].size <= width)
    used += fields[shown++].size;
  if (bar > 0) bar += std::min<std::size_t>(most_bar - least_bar, width - used);

  char* at = std::copy_n(head.data.data(), head.size, out.data());
  if (bar > 0) {
    const auto filled = static_cast<std::size_t>(done * static_cast<double>(bar));
    *at++ = ' ', *at++ = '[';
    at = std::fill_n(at, filled, '=');
    at = std::fill_n(at, bar - filled, ' ');
    *at++ = ']';
  }
  at = std::copy_n(percent.data.data(), percent.size, at);
  for (std::size_t i = 0; i < shown; ++i)
    at = std::copy_n(fields[i].data.data(), fields[i].size, at);
  return {out.data(), static_cast<std::size_t>(at - out.data())};
}

Console::~Console() { clear(); }

void Console::line(std::string_view text, Clock::time_point now) {
  const std::string_view before = drawn_ ? erase : std::string_view();
  write(before, text, "\n", bar_ && known_ ? draw(now) : std::string_view());
}

void Console::redraw(bool at_once, Clock::time_point now) {
  if (!bar_ || !known_ || (drawn_ && !at_once && now - drawn_at_ < least_pause)) return;
  write(erase, draw(now), {}, {});
}

void Console::clear() {
  if (drawn_) write(erase, {}, {}, {});
  drawn_ = known_ = false;
}

// One column is left free: some terminals wrap at the last.
std::string_view Console::draw(Clock::time_point now) {
  drawn_ = true, drawn_at_ = now;
  return progress_line(buffer_, columns_of(file_) - 1, progress_);
}

void Console::write(std::string_view a, std::string_view b, std::string_view c,
                    std::string_view d) {
  iovec parts[4];
  int count = 0;
  for (const std::string_view part : {a, b, c, d})
    if (!part.empty()) parts[count++] = {const_cast<char*>(part.data()), part.size()};
  iovec* next = parts;
  while (count > 0) {
    ssize_t done = ::writev(file_, next, count);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return;  // the reader has gone, or the disk behind it is full
    for (; count > 0 && static_cast<std::size_t>(done) >= next->iov_len; ++next, --count)
      done -= static_cast<ssize_t>(next->iov_len);
    if (count == 0) return;
    next->iov_base = static_cast<char*>(next->iov_base) + done;
    next->iov_len -= static_cast<std::size_t>(done);
  }
}

}  // namespace sluice
