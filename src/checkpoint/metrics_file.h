// RUN/metrics.jsonl: one JSON object per line, appended as training goes. The caller makes the
// text; this file gets it to the disk without allocating, without throwing in the step loop, and
// puts it right again after a kill or a resume.
//
// One thread. The rows are handed to the operating system at once (they survive a kill -9) but not
// synced (a power cut may lose the last seconds).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sluice {

class MetricsFile {
 public:
  // Opens or makes `path` for appending; a last line without a newline, the mark of a kill in the
  // middle of a write, is cut off. Throws Error(Exit::disk).
  explicit MetricsFile(const std::filesystem::path& path);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  // Appends `row` (one line, no newline) and returns whether all rows so far are in the file. On a
  // full disk rows wait in a fixed buffer and go out with a later one; rows that find no room there
  // are counted by lost(). Allocates nothing.
  bool append(std::string_view row);
  std::int64_t lost() const { return lost_; }

 private:
  bool flush();

  int fd_ = -1;
  std::int64_t size_ = 0;  // of the file; always at the end of a row
  std::size_t waiting_ = 0;
  std::int64_t lost_ = 0;
  std::array<char, 64 * 1024> buffer_;
};

// Takes the rows whose "step" is greater than `step` out of `path` and appends them to `path`.old,
// in their order; a torn last line goes with them. A row without a number "step" stays with the row
// before it. Returns the number of rows moved; a missing file has none, and a file without such
// rows is not touched. A kill on the way leaves every row in at least one of the two. Throws
// Error(Exit::disk). REQUIRES: no MetricsFile has `path` open.
std::int64_t truncate_after(const std::filesystem::path& path, std::int64_t step);

}  // namespace sluice
