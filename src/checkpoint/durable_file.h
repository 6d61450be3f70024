// A file that is either wholly on the disk or reported as failed: every write, fsync and close is
// checked, and its bytes are hashed on the way. Not atomic by itself: the checkpoint store writes
// into a temporary folder and renames that (store.h).
//
// One thread. Each call consults Faults before its system call (points save.*) and throws
// Error(Exit::disk) when it fails. A file that is destroyed before finish() is closed, not synced.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/fault.h"
#include "core/hash.h"

namespace sluice {

struct WrittenFile {
  std::int64_t size = 0;  // bytes
  std::string hash;       // XXH3-128, 32 lower-case hex digits
};

class DurableFile {
 public:
  // Makes `path`, which must not exist.
  DurableFile(const std::filesystem::path& path, Faults& faults);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  // fsync, a check of the size the file has, close. Nothing may be written afterwards.
  WrittenFile finish();

 private:
  std::string path_;
  Faults& faults_;
  Hasher128 hasher_;
  std::int64_t size_ = 0;
  int fd_ = -1;
};

// fsync of a folder: makes the names in it durable.
void sync_folder(const std::filesystem::path& folder, Faults& faults);
// rename(2); the caller syncs the parent folder.
void rename_checked(const std::filesystem::path& from, const std::filesystem::path& to,
                    Faults& faults);

}  // namespace sluice
