#include "checkpoint/zip_file.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace sluice {
namespace {

// Layouts of PKWARE's APPNOTE: signature and fixed size of each record.
constexpr std::uint32_t local_signature = 0x04034b50, entry_signature = 0x02014b50,
                        end_signature = 0x06054b50, end64_signature = 0x06064b50,
                        locator_signature = 0x07064b50;
constexpr std::uint64_t local_size = 30, entry_size = 46, end_size = 22, end64_size = 56,
                        locator_size = 20, most_comment = 65535;
constexpr std::uint64_t most_entries = 1'000'000, most_name = 4096;
constexpr std::uint32_t in_zip64 = 0xffffffff;

class Archive {
 public:
  Archive(std::span<const std::byte> file, const std::string& name) : file_(file), name_(name) {}

  std::vector<ZipEntry> read() {
    find_directory();
    std::vector<ZipEntry> out;
    std::uint64_t at = begin_;
    for (std::uint64_t i = 0; i < entries_; ++i) at = read_entry(at, out);
    refuse_twins(out);
    return out;
  }

 private:
  [[noreturn]] void fail(std::uint64_t at, std::string what, std::string expected,
                         std::string found = {}) const {
    throw Error(Exit::input, {fmt::format("the zip archive is damaged: {}", what),
                              fmt::format("{} byte {}", name_, at),
                              std::move(expected),
                              std::move(found),
                              {}});
  }

  std::uint64_t size() const { return file_.size(); }

  template <class T>
  T number(std::uint64_t at) const {
    if (at > size() || size() - at < sizeof(T))
      fail(at, "it ends early", "more bytes", fmt::format("{} bytes", size()));
    T out;
    std::memcpy(&out, file_.data() + at, sizeof(T));
    return out;
  }
  std::uint32_t u32(std::uint64_t at) const { return number<std::uint32_t>(at); }
  std::uint64_t u64(std::uint64_t at) const { return number<std::uint64_t>(at); }
  std::uint64_t u16(std::uint64_t at) const { return number<std::uint16_t>(at); }

  void require_signature(std::uint64_t at, std::uint32_t signature, const char* what) const {
    const std::uint32_t found = u32(at);
    if (found != signature)
      fail(at, fmt::format("there is no {}", what), fmt::format("{:08x}", signature),
           fmt::format("{:08x}", found));
  }

  void find_directory() {
    if (size() < end_size) fail(0, "it is too short", fmt::format("{} bytes", end_size));
    std::uint64_t end = size() - end_size;
    const std::uint64_t least = end > most_comment ? end - most_comment : 0;
    while (u32(end) != end_signature || end + end_size + u16(end + 20) != size()) {
      if (end == least)
        fail(size(), "its end is missing", "the record that ends an archive",
             fmt::format("{} bytes without it", size()));
      --end;
    }
    entries_ = u16(end + 10);
    std::uint64_t bytes = u32(end + 12);
    begin_ = u32(end + 16);
    limit_ = end;
    const bool zip64 = entries_ == 0xffff || bytes == in_zip64 || begin_ == in_zip64;
    if (zip64 || (end >= locator_size && u32(end - locator_size) == locator_signature)) {
      if (end < locator_size) fail(end, "its zip64 locator is missing", "20 bytes before its end");
      require_signature(end - locator_size, locator_signature, "zip64 locator");
      const std::uint64_t end64 = u64(end - locator_size + 8);
      if (end64 > end - locator_size || end - locator_size - end64 < end64_size)
        fail(end - locator_size, "its zip64 end lies elsewhere", "a place before the locator",
             fmt::format("{}", end64));
      require_signature(end64, end64_signature, "zip64 end");
      entries_ = u64(end64 + 32), bytes = u64(end64 + 40), begin_ = u64(end64 + 48);
      limit_ = end64;
    }
    if (begin_ > limit_ || bytes != limit_ - begin_)
      fail(limit_, "its directory does not end where it should",
           fmt::format("{} bytes from {}", bytes, begin_), fmt::format("{}", limit_));
    if (entries_ > most_entries || entries_ > bytes / entry_size)
      fail(limit_, "it has too many entries", fmt::format("at most {}", most_entries),
           fmt::format("{}", entries_));
  }

  struct Sizes {
    std::uint64_t packed, plain, local;
  };

  // Where the directory's 32 bits are too few, the extra field with id 1 has what it lacks.
  void read_zip64(std::uint64_t at, std::uint64_t bytes, Sizes& sizes) const {
    for (std::uint64_t used = 0; used + 4 <= bytes;) {
      const std::uint64_t id = u16(at + used), length = u16(at + used + 2);
      if (length > bytes - used - 4) fail(at + used, "an extra field is too long", "less");
      std::uint64_t field = at + used + 4;
      const std::uint64_t field_end = field + length;
      used += 4 + length;
      if (id != 1) continue;
      for (std::uint64_t* value : {&sizes.plain, &sizes.packed, &sizes.local}) {
        if (*value != in_zip64) continue;
        if (field_end - field < 8) fail(field, "a zip64 field is too short", "8 bytes a number");
        *value = u64(field);
        field += 8;
      }
      return;
    }
  }

  std::uint64_t read_entry(std::uint64_t at, std::vector<ZipEntry>& out) const {
    if (limit_ - at < entry_size)
      fail(at, "its directory ends early", fmt::format("{} entries", entries_));
    require_signature(at, entry_signature, "entry of the directory");
    const std::uint64_t flags = u16(at + 8), method = u16(at + 10), name_bytes = u16(at + 28),
                        extra = u16(at + 30), comment = u16(at + 32);
    const std::uint64_t next = at + entry_size + name_bytes + extra + comment;
    if (next > limit_) fail(at, "its directory ends early", fmt::format("{} bytes", next - at));
    if (name_bytes == 0 || name_bytes > most_name)
      fail(at, "a name is too long or empty", fmt::format("1 to {} bytes", most_name),
           fmt::format("{}", name_bytes));
    ZipEntry entry;
    entry.name = {reinterpret_cast<const char*>(file_.data()) + at + entry_size, name_bytes};
    entry.crc = u32(at + 16);
    Sizes sizes{u32(at + 20), u32(at + 24), u32(at + 42)};
    read_zip64(at + entry_size + name_bytes, extra, sizes);
    if ((flags & 1) != 0) fail(at, "an entry is encrypted", "plain entries", shown(entry));
    if (method != 0 || sizes.packed != sizes.plain)
      fail(at, "an entry is packed", "stored entries, as torch.save writes them", shown(entry));
    entry.bytes = data_of(at, sizes);
    out.push_back(entry);
    return next;
  }

  std::span<const std::byte> data_of(std::uint64_t at, const Sizes& sizes) const {
    if (sizes.local > begin_ || begin_ - sizes.local < local_size)
      fail(at, "an entry lies outside the archive", fmt::format("a place before {}", begin_),
           fmt::format("{}", sizes.local));
    require_signature(sizes.local, local_signature, "entry");
    const std::uint64_t data =
        sizes.local + local_size + u16(sizes.local + 26) + u16(sizes.local + 28);
    if (data > begin_ || sizes.plain > begin_ - data)
      fail(at, "an entry is longer than the archive", fmt::format("an end before {}", begin_),
           fmt::format("{} bytes from {}", sizes.plain, data));
    return file_.subspan(data, sizes.plain);
  }

  // Text of an entry that is safe to print.
  static std::string shown(const ZipEntry& entry) {
    std::string out(entry.name.substr(0, 80));
    std::replace_if(
        out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return out;
  }

  void refuse_twins(const std::vector<ZipEntry>& entries) const {
    std::vector<std::string_view> names;
    for (const ZipEntry& entry : entries) names.push_back(entry.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) fail(begin_, "a name occurs twice", "once", shown({*twice, {}, 0}));
  }

  std::span<const std::byte> file_;
  const std::string& name_;
  std::uint64_t begin_ = 0, limit_ = 0, entries_ = 0;  // of the directory
};

}  // namespace

bool is_zip(std::span<const std::byte> file) {
  return file.size() >= 4 && std::memcmp(file.data(), "PK\3\4", 4) == 0;
}

std::vector<ZipEntry> read_zip(std::span<const std::byte> file, const std::string& name) {
  return Archive(file, name).read();
}

}  // namespace sluice
