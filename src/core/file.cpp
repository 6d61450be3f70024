#include "core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace sluice {
namespace {

std::string reason(int number) { return std::generic_category().message(number); }

Error cannot_read(const std::string& path, std::string found) {
  return Error(Exit::input, {.what = fmt::format("cannot read {}", path),
                             .where = path,
                             .expected = "a readable file",
                             .found = std::move(found),
                             .tries = {}});
}

Error cannot_write(const std::string& path, int number) {
  return Error(Exit::disk, {.what = fmt::format("cannot write {}", path),
                            .where = path,
                            .expected = "a folder with room that this user may write to",
                            .found = reason(number),
                            .tries = {}});
}

// Closes at scope end; reading has nothing to lose in close().
struct ReadHandle {
  int file;
  explicit ReadHandle(const std::string& path) : file(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    require(file >= 0, [&] { return cannot_read(path, reason(errno)); });
  }
  ReadHandle(const ReadHandle&) = delete;
  ReadHandle& operator=(const ReadHandle&) = delete;
  ~ReadHandle() { close(file); }

  std::size_t size(const std::string& path) const {
    struct stat status = {};
    require(fstat(file, &status) == 0, [&] { return cannot_read(path, reason(errno)); });
    require(!S_ISDIR(status.st_mode), [&] { return cannot_read(path, "a folder"); });
    require(S_ISREG(status.st_mode), [&] { return cannot_read(path, "not a regular file"); });
    return static_cast<std::size_t>(status.st_size);
  }
};

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const ReadHandle handle(path_);
  size_ = handle.size(path_);
  if (size_ == 0) return;
  void* data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, handle.file, 0);
  require(data != MAP_FAILED, [&] { return cannot_read(path_, reason(errno)); });
  data_ = data;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

void MappedFile::forget(std::span<const std::byte> bytes) const {
  if (data_ == nullptr) return;
  constexpr std::size_t page = 4096;  // a page that is half in is let go as well: it comes again
  const auto begin = static_cast<std::size_t>(bytes.data() - static_cast<const std::byte*>(data_));
  const std::size_t first = begin / page * page;
  (void)madvise(static_cast<char*>(data_) + first, begin + bytes.size() - first, MADV_DONTNEED);
}

std::string read_file(const std::string& path, std::size_t most) {
  const ReadHandle handle(path);
  const std::size_t size = handle.size(path);
  require(size <= most, [&] {
    return Error(Exit::input, {.what = fmt::format("{} is too large", path),
                               .where = path,
                               .expected = fmt::format("at most {} bytes", most),
                               .found = fmt::format("{} bytes", size),
                               .tries = {}});
  });
  std::string out(size, '\0');
  std::size_t have = 0;
  while (have < size) {
    const ssize_t got = read(handle.file, out.data() + have, size - have);
    if (got < 0 && errno == EINTR) continue;
    require(got >= 0, [&] { return cannot_read(path, reason(errno)); });
    require(got > 0, [&] { return cannot_read(path, "a file that shrank while it was read"); });
    have += static_cast<std::size_t>(got);
  }
  return out;
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), temporary_(path_ + ".tmp") {
  file_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  require(file_ >= 0, [&] { return cannot_write(path_, errno); });
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) close(file_);
  if (!published_) unlink(temporary_.c_str());
}

void AtomicFile::append(const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = write(file_, at, bytes);
    if (put < 0 && errno == EINTR) continue;
    require(put >= 0, [&] { return cannot_write(path_, errno); });
    at += put;
    bytes -= static_cast<std::size_t>(put);
  }
}

void AtomicFile::finish() {
  if (file_ < 0) return;
  require(fsync(file_) == 0, [&] { return cannot_write(path_, errno); });
  // Some file systems report a failed write only here.
  const int file = std::exchange(file_, -1);
  require(close(file) == 0, [&] { return cannot_write(path_, errno); });
}

void AtomicFile::publish() {
  finish();
  require(rename(temporary_.c_str(), path_.c_str()) == 0,
          [&] { return cannot_write(path_, errno); });
  published_ = true;
  sync_folder(folder_of(path_));
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.append(bytes);
  file.publish();
}

void sync_folder(const std::string& folder) {
  const int file = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  require(file >= 0, [&] { return cannot_write(folder, errno); });
  const int result = fsync(file);
  const int number = errno;
  close(file);
  // Some network file systems cannot sync a folder and say EINVAL; their rename is durable.
  require(result == 0 || number == EINVAL, [&] { return cannot_write(folder, number); });
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace sluice
