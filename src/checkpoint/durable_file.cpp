#include "checkpoint/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace sluice {

namespace {

// Bytes per write(2): small enough that a full disk is noticed early in a large tensor.
constexpr std::size_t write_piece = std::size_t{8} << 20;

// Makes the system call unless a fault is planned for it; negative results carry errno.
template <class Call>
auto with_fault(Faults& faults, std::string_view point, Call call) -> decltype(call()) {
  if (const int error = faults.errno_at(point); error != 0) {
    errno = error;
    return -1;
  }
  return call();
}

}  // namespace

DurableFile::DurableFile(const std::filesystem::path& path, Faults& faults)
    : path_(path.string()), faults_(faults) {
  fd_ = with_fault(faults_, "save.open", [&] {
    return ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  });
  if (fd_ < 0) throw disk_error("create", path_, errno);
}

DurableFile::~DurableFile() {
  if (fd_ >= 0) ::close(fd_);  // given up: whoever gave up has already thrown
}

void DurableFile::write(std::span<const std::byte> bytes) {
  hasher_.add(bytes.data(), bytes.size());
  while (!bytes.empty()) {
    std::size_t piece = std::min(bytes.size(), write_piece);
    const Faults::Effect effect = faults_.at("save.write");
    if (effect.shorten) piece = (piece + 1) / 2;
    errno = effect.error;
    const ssize_t written = effect.error != 0 ? -1 : ::write(fd_, bytes.data(), piece);
    if (written < 0 && errno == EINTR) continue;
    // write(2) may take nothing without an error only from devices; call it a full disk.
    if (written <= 0) throw disk_error("write", path_, written < 0 ? errno : ENOSPC);
    size_ += written;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

WrittenFile DurableFile::finish() {
  if (with_fault(faults_, "save.fsync", [&] { return ::fsync(fd_); }) != 0) {
    throw disk_error("sync", path_, errno);
  }
  struct stat status {};
  if (::fstat(fd_, &status) != 0) throw disk_error("examine", path_, errno);
  require(status.st_size == size_, [&] {
    return Error(Exit::disk, {"a file did not keep what was written to it",
                              path_,
                              fmt::format("{} bytes", size_),
                              fmt::format("{} bytes", status.st_size),
                              {}});
  });
  // The descriptor is gone even when close fails (a late write error of a network disk).
  const int planned = faults_.errno_at("save.close");
  const int closed = ::close(fd_);
  const int error = planned != 0 ? planned : errno;
  fd_ = -1;
  if (planned != 0 || closed != 0) throw disk_error("close", path_, error);
  return {size_, hasher_.hex()};
}

void sync_folder(const std::filesystem::path& folder, Faults& faults) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw disk_error("open", folder.string(), errno);
  const int result = with_fault(faults, "save.fsync", [&] { return ::fsync(fd); });
  const int error = errno;
  ::close(fd);
  if (result != 0) throw disk_error("sync", folder.string(), error);
}

void rename_checked(const std::filesystem::path& from, const std::filesystem::path& to,
                    Faults& faults) {
  if (with_fault(faults, "save.rename", [&] { return std::rename(from.c_str(), to.c_str()); }) !=
      0) {
    throw disk_error("rename", from.string(), errno);
  }
}

}  // namespace sluice
