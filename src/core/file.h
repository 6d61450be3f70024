// Whole files in and out: a read-only mapping, and writing that leaves the old file or the new one.
//
// Nothing here is held across threads: a MappedFile may be read by any number of them, an
// AtomicFile belongs to one. Unreadable input is an Error with Exit::input, failed writing one with
// Exit::disk; both carry the path in `where`.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

// A regular file mapped read-only for the life of the object; an empty file maps to nothing.
// REQUIRES: nobody truncates the file meanwhile (reading past its new end is a bus error).
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(std::string path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::size_t size() const { return size_; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  // Lets go of the memory that holds these bytes of the file; who reads them again finds them.
  void forget(std::span<const std::byte> bytes) const;

 private:
  std::string path_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

// The content of a regular file of at most `most` bytes.
std::string read_file(const std::string& path, std::size_t most = std::size_t{1} << 40);

// A file that appears whole or not at all: bytes go to PATH.tmp, finish() makes them durable,
// publish() gives them their name. Destroyed before publish(), it takes PATH.tmp away. Two writers
// of one path at a time are not supported.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void append(const void* data, std::size_t bytes);  // unbuffered: give it large pieces
  void append(std::string_view text) { append(text.data(), text.size()); }
  void finish();   // fsync and close; no append() after it
  void publish();  // finish() if need be, rename, fsync of the folder
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::string temporary_;
  int file_ = -1;
  bool published_ = false;
};

void write_file_atomic(const std::string& path, std::string_view bytes);

// Makes the folder's entries (new names, renames, removals) durable.
void sync_folder(const std::string& folder);
// The folder part of a path: "." for a bare name.
std::string folder_of(const std::string& path);

}  // namespace sluice
