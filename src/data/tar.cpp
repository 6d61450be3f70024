#include "data/tar.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/error.h"

namespace sluice {
namespace {

using Block = std::array<char, tar_block>;

std::string_view field(std::string_view block, std::size_t at, std::size_t bytes) {
  const std::string_view all = block.substr(at, bytes);
  return all.substr(0, all.find('\0'));
}

// Octal digits, or base 256 when the first bit is set. Absent: neither.
std::optional<std::int64_t> number(std::string_view block, std::size_t at, std::size_t bytes) {
  std::string_view text = block.substr(at, bytes);
  if ((static_cast<unsigned char>(text[0]) & 0x80) != 0) {
    std::int64_t value = 0;
    for (const char c : text.substr(1)) {
      if (value > std::int64_t{1} << 46) return std::nullopt;
      value = value * 256 + static_cast<unsigned char>(c);
    }
    return value;
  }
  while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (error != std::errc()) return std::nullopt;
  return value;
}

bool has_right_sum(std::string_view block) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < block.size(); ++i)
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
  return number(block, 148, 8) == sum;
}

Error damaged(const std::string& archive, std::string found) {
  return Error(Exit::input, {.what = "the archive is damaged",
                             .where = archive,
                             .expected = "a header of tar",
                             .found = std::move(found),
                             .tries = {}});
}

// What "LENGTH path=NAME\n" among the lines of a pax header says.
std::string pax_path(std::string_view lines) {
  std::string out;
  while (!lines.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(lines.data(), lines.data() + lines.size(), length);
    if (error != std::errc() || length == 0 || length > lines.size()) break;
    const std::string_view line = lines.substr(0, length - 1);
    const std::size_t space = line.find(' ');
    if (space != std::string_view::npos && line.substr(space + 1).starts_with("path="))
      out = line.substr(space + 6);
    lines.remove_prefix(length);
  }
  return out;
}

}  // namespace

bool is_tar(std::string_view block) {
  return block.size() >= tar_block && block.substr(257, 5) == "ustar" &&
         has_right_sum(block.substr(0, tar_block));
}

std::optional<TarEntry> next_tar_entry(const ReadAll& read, const std::string& archive) {
  constexpr std::int64_t longest_note = std::int64_t{1} << 20;
  std::string long_name;
  for (;;) {
    Block bytes;
    if (!read(bytes.data(), bytes.size())) return std::nullopt;
    const std::string_view block(bytes.data(), bytes.size());
    if (std::all_of(block.begin(), block.end(), [](char c) { return c == 0; })) return std::nullopt;
    const std::optional<std::int64_t> size = number(block, 124, 12);
    require(has_right_sum(block) && size && *size >= 0,
            [&] { return damaged(archive, "other bytes"); });
    const char type = block[156];
    if (type == 'L' || type == 'x' || type == 'g') {
      require(*size <= longest_note, [&] { return damaged(archive, "a name of a megabyte"); });
      std::string note(static_cast<std::size_t>(in_blocks(*size)), '\0');
      require(read(note.data(), note.size()), [&] { return damaged(archive, "its end"); });
      note.resize(static_cast<std::size_t>(*size));
      if (type == 'L') long_name = note.substr(0, note.find('\0'));
      if (type == 'x') {
        if (std::string path = pax_path(note); !path.empty()) long_name = std::move(path);
      }
      continue;
    }
    TarEntry entry;
    entry.file = type == '0' || type == '\0';
    entry.size = type == '1' || type == '2' || type == '5' ? 0 : *size;
    const std::string_view prefix = block.substr(257, 5) == "ustar" ? field(block, 345, 155) : "";
    entry.name = std::string(field(block, 0, 100));
    if (!prefix.empty()) entry.name = fmt::format("{}/{}", prefix, entry.name);
    if (!long_name.empty()) entry.name = long_name;
    return entry;
  }
}

}  // namespace sluice
