#include "checkpoint/metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/fault.h"
#include "core/file.h"

namespace sluice {

namespace {

// The file's size up to and including its last newline.
std::int64_t whole_rows(int fd) {
  std::int64_t size = ::lseek(fd, 0, SEEK_END);
  std::array<char, 4096> piece;
  while (size > 0) {
    const std::int64_t begin = std::max<std::int64_t>(0, size - std::ssize(piece));
    const ssize_t got = ::pread(fd, piece.data(), static_cast<std::size_t>(size - begin), begin);
    if (got <= 0) return size;
    const std::size_t newline =
        std::string_view(piece.data(), static_cast<std::size_t>(got)).rfind('\n');
    if (newline != std::string_view::npos) return begin + static_cast<std::int64_t>(newline) + 1;
    size = begin;
  }
  return 0;
}

std::optional<std::int64_t> step_of_row(const std::string& row) {
  const nlohmann::json json = nlohmann::json::parse(row, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const auto step = json.find("step");
  if (step == json.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<std::int64_t>();
}

// Calls take(row, later): whether the row belongs after `step`. Rows come with their newline, a
// torn last line without one.
template <class Take>
void for_each_row(const std::filesystem::path& path, std::int64_t step, Take take) {
  std::ifstream input(path, std::ios::binary);
  bool later = false;
  for (std::string row; std::getline(input, row);) {
    const bool torn = input.eof();
    if (const auto number = step_of_row(row)) later = *number > step;
    if (!torn) row.push_back('\n');
    take(row, later || torn);
  }
}

// A file that is only ever added to.
class Appender {
 public:
  explicit Appender(std::string path)
      : path_(std::move(path)),
        fd_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (fd_ < 0) throw disk_error("open", path_, errno);
  }
  ~Appender() { ::close(fd_); }
  Appender(const Appender&) = delete;
  Appender& operator=(const Appender&) = delete;
  void add(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(fd_, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) throw disk_error("write", path_, written < 0 ? errno : ENOSPC);
      text.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  void sync() {
    if (::fsync(fd_) != 0) throw disk_error("sync", path_, errno);
  }

 private:
  std::string path_;
  int fd_;
};

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw disk_error("open", path.string(), errno);
  size_ = whole_rows(fd_);
  if (::ftruncate(fd_, size_) != 0) {
    const int error = errno;
    ::close(fd_);
    throw disk_error("write", path.string(), error);
  }
}

MetricsFile::~MetricsFile() {
  flush();
  ::close(fd_);
}

bool MetricsFile::append(std::string_view row) {
  if (row.size() + 1 > buffer_.size() - waiting_) {
    flush();
    if (row.size() + 1 > buffer_.size() - waiting_) {
      ++lost_;
      return false;
    }
  }
  std::memcpy(buffer_.data() + waiting_, row.data(), row.size());
  waiting_ += row.size();
  buffer_[waiting_++] = '\n';
  return flush();
}

bool MetricsFile::flush() {
  std::size_t done = 0;
  while (done < waiting_) {
    const ssize_t written = ::write(fd_, buffer_.data() + done, waiting_ - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    done += static_cast<std::size_t>(written);
  }
  if (done == waiting_) {
    size_ += static_cast<std::int64_t>(waiting_);
    waiting_ = 0;
    return true;
  }
  // Half a row may be in the file: take it back, so that the file ends with a row. If that fails
  // too, what did go in is kept and only the rest waits.
  if (done > 0 && ::ftruncate(fd_, size_) != 0) {
    std::memmove(buffer_.data(), buffer_.data() + done, waiting_ - done);
    size_ += static_cast<std::int64_t>(done);
    waiting_ -= done;
  }
  return false;
}

std::int64_t truncate_after(const std::filesystem::path& path, std::int64_t step) {
  std::int64_t moved = 0;
  for_each_row(path, step, [&](const std::string&, bool later) { moved += later; });
  if (moved == 0) return 0;
  // The old rows are on the disk before the file that lacks them takes its name.
  Appender old(path.string() + ".old");
  for_each_row(path, step, [&](const std::string& row, bool later) {
    if (later) old.add(row.ends_with('\n') ? row : row + '\n');
  });
  old.sync();
  AtomicFile kept(path.string());
  std::string pending;
  constexpr std::size_t piece = std::size_t{1} << 20;
  for_each_row(path, step, [&](const std::string& row, bool later) {
    if (later) return;
    pending += row;
    if (pending.size() < piece) return;
    kept.append(pending);
    pending.clear();
  });
  kept.append(pending);
  kept.publish();
  return moved;
}

}  // namespace sluice
