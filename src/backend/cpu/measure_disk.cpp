#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "backend/cpu/measure.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int disk_repeats = 5;
constexpr std::int64_t piece = 1 << 20;

Error cannot(const char* verb, const std::string& folder, int number) {
  return Error(Exit::disk, {fmt::format("cannot {} a file in {}", verb, folder),
                            folder,
                            "a folder that can be written",
                            std::strerror(number),
                            {"--disk DIR, a folder on the disk that checkpoints will lie on"}});
}

// An open file that has no name.
class Nameless {
 public:
  explicit Nameless(const std::string& folder) : folder_(folder) {
    std::string name = folder + "/.sluice-doctor-XXXXXX";
    file_ = ::mkostemp(name.data(), O_CLOEXEC);
    require(file_ >= 0, [&] { return cannot("make", folder_, errno); });
    ::unlink(name.c_str());
  }
  Nameless(const Nameless&) = delete;
  Nameless& operator=(const Nameless&) = delete;
  ~Nameless() { ::close(file_); }

  void write(const std::vector<char>& bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t put = ::write(file_, bytes.data() + done, bytes.size() - done);
      if (put < 0 && errno == EINTR) continue;
      require(put > 0, [&] { return cannot("write", folder_, put < 0 ? errno : ENOSPC); });
      done += static_cast<std::size_t>(put);
    }
  }
  void sync() {
    require(::fsync(file_) == 0, [&] { return cannot("sync", folder_, errno); });
  }
  void rewind() {
    (void)::posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
    ::lseek(file_, 0, SEEK_SET);
  }
  void empty() {
    require(::ftruncate(file_, 0) == 0, [&] { return cannot("empty", folder_, errno); });
    ::lseek(file_, 0, SEEK_SET);
  }
  bool read(std::vector<char>& bytes) {
    for (;;) {
      const ssize_t got = ::read(file_, bytes.data(), bytes.size());
      if (got < 0 && errno == EINTR) continue;
      require(got >= 0, [&] { return cannot("read", folder_, errno); });
      return got > 0;
    }
  }

 private:
  std::string folder_;
  int file_;
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

DiskRates measure_disk(const std::string& folder, std::int64_t bytes, double seconds) {
  Nameless file(folder);
  struct statvfs space {};
  if (::statvfs(folder.c_str(), &space) == 0) {
    const double free = static_cast<double>(space.f_bavail) * static_cast<double>(space.f_frsize);
    require(free >= 4.0 * piece, [&] { return cannot("write", folder, ENOSPC); });
    bytes = std::min(bytes, static_cast<std::int64_t>(free / 4));
  }
  // Nothing that a file system could compress or find twice.
  std::vector<char> data(piece);
  std::uint64_t state = 0x9e3779b97f4a7c15;
  const auto scramble = [&] {
    for (std::size_t i = 0; i < data.size(); i += sizeof state) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      std::memcpy(data.data() + i, &state, sizeof state);
    }
  };
  // Seconds of writing and syncing, then of reading back.
  const auto repeat = [&](std::int64_t size) {
    file.empty();
    double spent = 0;
    for (std::int64_t written = 0; written < size; written += piece) {
      scramble();
      const Clock::time_point start = Clock::now();
      file.write(data);
      spent += seconds_since(start);
    }
    Clock::time_point start = Clock::now();
    file.sync();
    spent += seconds_since(start);
    file.rewind();
    start = Clock::now();
    while (file.read(data)) {
    }
    return std::pair(static_cast<double>(size) / spent,
                     static_cast<double>(size) / seconds_since(start));
  };
  // On a slow disk the file is shorter, so that each repeat has its share of the seconds.
  const Clock::time_point begin = Clock::now();
  constexpr std::int64_t first = 4 * piece;
  const auto [write, read] = repeat(first);
  const double affordable = seconds / (disk_repeats + 1) / (1 / write + 1 / read);
  bytes = std::clamp(static_cast<std::int64_t>(affordable) / piece * piece, piece,
                     std::max(bytes / piece * piece, piece));
  std::vector<double> writes, reads;
  do {
    const auto [wrote, got] = repeat(bytes);
    writes.push_back(wrote);
    reads.push_back(got);
  } while (static_cast<int>(writes.size()) < disk_repeats && seconds_since(begin) < seconds);
  return {median(writes), median(reads), bytes};
}

}  // namespace sluice
