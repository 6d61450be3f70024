// Room on disk for what does not fit into memory: one file without a name, of a fixed size, read
// and written in whole pages. Whatever ends the process, nothing of it stays.
//
// Bytes go past the page cache (O_DIRECT) where the file system can do that. Threads: several may
// read and write at once, each its own bytes. Allocates nothing after it is made. Errors:
// Exit::disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/fault.h"

namespace sluice {

class ScratchFile {
 public:
  static constexpr std::int64_t page = 4096;
  static constexpr std::int64_t most_at_once = 64 << 20;  // bytes of one system call

  // Takes all of the room now; it reads as zeros. `folder` exists. `faults` outlives the file.
  ScratchFile(std::string folder, std::int64_t bytes, Faults& faults);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  // REQUIRES: offsets, sizes and addresses are multiples of `page`.
  void read(std::byte* to, std::int64_t offset, std::int64_t bytes);
  void write(const std::byte* from, std::int64_t offset, std::int64_t bytes);

  std::int64_t bytes() const { return bytes_; }
  bool direct() const { return direct_; }  // false: the file system knows no O_DIRECT
  const std::string& folder() const { return folder_; }
  // What a person is told of a file that is not direct.
  std::string without_direct() const;

 private:
  int open_nameless(int flags);
  template <class Call>
  void move(std::string_view point, const char* verb, std::int64_t offset, std::int64_t bytes,
            Call call);
  Error failed(const char* verb, int error) const;

  std::string folder_;
  std::int64_t bytes_;
  Faults& faults_;
  bool direct_ = true;
  int file_ = -1;
};

}  // namespace sluice
