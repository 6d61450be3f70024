// Reader and writer of safetensors files: a little-endian length N, N bytes of JSON that name each
// tensor's type, shape and place, then the tensors' bytes, row-major and little-endian.
//
// The reader trusts nothing. A file is accepted only when the tensors tile the data section
// exactly, without hole or overlap, sizes agree with shapes, no key occurs twice and the header
// keeps to the limits below; what it allocates is bounded by the header that is really there. The
// writer emits what the reference writer does (widest type first, then by name; header padded to
// 8 bytes), so that every tensor is aligned to its own type and other tools load it.
//
// An opened file can be moved, not copied. One thread per object; const use of an opened file from
// many threads is fine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/durable_file.h"
#include "core/file.h"

namespace sluice {

struct SafetensorsLimits {
  static constexpr std::uint64_t header_bytes = 100'000'000;
  static constexpr std::size_t tensors = 1'000'000;
  static constexpr std::size_t name_bytes = 1024;
  static constexpr std::size_t rank = 8;
  static constexpr std::int64_t dimension = std::int64_t{1} << 40;
};

struct TensorInfo {
  std::string name;
  std::string dtype;                // "F32", "BF16", "I64", …: the format's own words
  std::vector<std::int64_t> shape;  // empty: a scalar
  std::int64_t offset = 0;          // from the start of the data section
  std::int64_t bytes = 0;
};

// Bits per element of a safetensors type; none when there is no such type.
std::optional<std::int64_t> safetensors_bits(std::string_view dtype);

class SafetensorsFile {
 public:
  // Maps `path` and checks its header. Errors: Exit::input for a malformed file, naming the file,
  // the tensor and the rule; Exit::input for one that cannot be opened. The file must not be
  // shortened while it is open.
  static SafetensorsFile open(const std::filesystem::path& path);
  // The same over bytes that the caller keeps alive; `name` appears in messages.
  static SafetensorsFile parse(std::span<const std::byte> file, std::string name);

  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in the order of the data
  const TensorInfo* find(std::string_view name) const;                 // null: no such tensor
  // A tensor's bytes; files by other writers may leave them unaligned to their type.
  std::span<const std::byte> bytes(const TensorInfo& info) const;
  // Of bytes that were read and are not needed now: they need not stay in memory.
  void forget(std::span<const std::byte> bytes) const { mapping_.forget(bytes); }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& name() const { return name_; }

 private:
  SafetensorsFile() = default;

  std::string name_;
  MappedFile mapping_;               // empty after parse()
  std::span<const std::byte> data_;  // the data section
  std::vector<TensorInfo> tensors_;
  std::vector<std::size_t> by_name_;  // indices of tensors_, sorted by name
  std::map<std::string, std::string> metadata_;
};

// Writes one file from front to back. All tensors are announced first; their bytes then arrive in
// the order of tensors(), each in as many pieces as the caller likes (64 MiB is plenty: nothing is
// buffered here). Memory: the header, no more.
class SafetensorsWriter {
 public:
  // `infos` need name, dtype and shape; offset and bytes are computed. `path` must not exist.
  // Errors: Exit::disk, and Exit::input for tensors that the reader would refuse.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorInfo> infos,
                    const std::map<std::string, std::string>& metadata, Faults& faults);

  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in the order of writing
  // The next piece of tensor `name`. REQUIRES: the tensors before it are complete.
  void write(std::string_view name, std::span<const std::byte> piece);
  // REQUIRES: every tensor is complete. The file is on the disk when this returns.
  WrittenFile finish();

 private:
  void skip_complete();

  std::vector<TensorInfo> tensors_;
  DurableFile file_;
  std::size_t current_ = 0;   // index of the tensor being written
  std::int64_t written_ = 0;  // bytes of it
};

}  // namespace sluice
