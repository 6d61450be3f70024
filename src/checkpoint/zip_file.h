// The entries of a zip archive whose entries are stored, not packed, as PyTorch writes them: each
// is a span of the file. Sizes come from the central directory, zip64 included.
//
// Nothing is trusted: every offset and size is held against the file, entries lie outside the
// directory, names occur once. Pure function; memory: the list. Errors: Exit::input, naming the
// file, the entry and the byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct ZipEntry {
  std::string_view name;  // lives as long as the file's bytes
  std::span<const std::byte> bytes;
  std::uint32_t crc = 0;  // CRC-32 that the archive says
};

bool is_zip(std::span<const std::byte> file);
// `name` is what errors call the file.
std::vector<ZipEntry> read_zip(std::span<const std::byte> file, const std::string& name);

}  // namespace sluice
