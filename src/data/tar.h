// Headers of a tar archive: ustar, with the long names of GNU and pax.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

inline constexpr std::size_t tar_block = 512;

struct TarEntry {
  std::string name;
  bool file = false;      // a regular one
  std::int64_t size = 0;  // of its content, which follows in whole blocks
};

// Whether 512 bytes look like the first header of an archive.
bool is_tar(std::string_view block);

// The next entry that is no note about another. `read` fills its argument whole, or says false at
// the end. Absent: the archive's end. Error (Exit::input) naming `archive` for what is no header.
using ReadAll = std::function<bool(char*, std::size_t)>;
std::optional<TarEntry> next_tar_entry(const ReadAll& read, const std::string& archive);

// The content's bytes with what fills up its last block.
constexpr std::int64_t in_blocks(std::int64_t size) {
  constexpr auto block = static_cast<std::int64_t>(tar_block);
  return (size + block - 1) / block * block;
}

}  // namespace sluice
