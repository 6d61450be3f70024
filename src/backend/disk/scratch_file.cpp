#include "backend/disk/scratch_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace sluice {

ScratchFile::ScratchFile(std::string folder, std::int64_t bytes, Faults& faults)
    : folder_(std::move(folder)), bytes_(bytes), faults_(faults) {
  errno = faults_.errno_at("scratch.direct");
  if (errno == 0) file_ = open_nameless(O_DIRECT);
  if (file_ < 0 && errno == EINVAL) {
    direct_ = false;
    file_ = open_nameless(0);
  }
  if (file_ < 0) throw failed("make", errno);
  int error = faults_.errno_at("scratch.allocate");
  if (error == 0) error = ::posix_fallocate(file_, 0, bytes_);
  if (error == 0) return;
  ::close(file_);
  throw failed("take room for", error);
}

ScratchFile::~ScratchFile() { ::close(file_); }

// A file that never had a name; where the file system makes none, one whose name goes at once.
int ScratchFile::open_nameless(int flags) {
  if (const int error = faults_.errno_at("scratch.open"); error != 0) {
    errno = error;
    return -1;
  }
  flags |= O_RDWR | O_CLOEXEC;
  const int file = ::open(folder_.c_str(), flags | O_TMPFILE, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return file;
  std::string name = folder_ + "/.scratch-XXXXXX";
  const int named = ::mkostemp(name.data(), flags & ~O_RDWR);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

std::string ScratchFile::without_direct() const {
  return fmt::format("the disk of {} knows no O_DIRECT: blobs go through the page cache", folder_);
}

Error ScratchFile::failed(const char* verb, int error) const {
  return Error(Exit::disk, {fmt::format("cannot {} the scratch file", verb),
                            folder_,
                            fmt::format("{} bytes of a disk that works", bytes_),
                            std::strerror(error),
                            {"the same command: it goes on from the last checkpoint",
                             "plan.disk_path with a folder on another disk"}});
}

template <class Call>
void ScratchFile::move(std::string_view point, const char* verb, std::int64_t offset,
                       std::int64_t bytes, Call call) {
  assert(offset % page == 0 && bytes % page == 0 && offset <= bytes_ - bytes);
  for (std::int64_t done = 0; done < bytes;) {
    std::int64_t piece = std::min(bytes - done, most_at_once);
    const Faults::Effect effect = faults_.at(point);
    if (effect.shorten) piece = std::max(piece / 2 / page * page, page);
    errno = effect.error;
    const ssize_t moved =
        effect.error != 0 ? -1 : call(done, offset + done, static_cast<std::size_t>(piece));
    if (moved < 0 && errno == EINTR) continue;
    // Part of a page, or nothing: no working disk does that within a file.
    if (moved <= 0 || moved % page != 0) throw failed(verb, moved < 0 ? errno : EIO);
    done += moved;
  }
}

void ScratchFile::read(std::byte* to, std::int64_t offset, std::int64_t bytes) {
  move("scratch.read", "read", offset, bytes, [&](std::int64_t done, off_t at, std::size_t piece) {
    return ::pread(file_, to + done, piece, at);
  });
}

void ScratchFile::write(const std::byte* from, std::int64_t offset, std::int64_t bytes) {
  move("scratch.write", "write", offset, bytes,
       [&](std::int64_t done, off_t at, std::size_t piece) {
         return ::pwrite(file_, from + done, piece, at);
       });
}

}  // namespace sluice
