#include "data/inputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>

#include "core/error.h"
#include "data/tar.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using Kind = InputSource::Kind;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool take_end(std::string& name, std::initializer_list<std::string_view> ends) {
  for (const std::string_view end : ends) {
    if (name.size() <= end.size() || !name.ends_with(end)) continue;
    name.resize(name.size() - end.size());
    return true;
  }
  return false;
}

struct Ending {
  std::optional<Kind> kind;  // absent: the name does not say
  Packing packing = Packing::none;
};

Ending ending_of(const std::string& path) {
  std::string name = lower(path);
  Ending out;
  if (take_end(name, {".gz"}))
    out.packing = Packing::gzip;
  else if (take_end(name, {".zst", ".zstd"}))
    out.packing = Packing::zstd;
  else if (take_end(name, {".xz"}))
    out.packing = Packing::xz;
  else if (take_end(name, {".tgz"}))
    return {Kind::tar, Packing::gzip};
  else if (take_end(name, {".txz"}))
    return {Kind::tar, Packing::xz};
  if (take_end(name, {".txt"}))
    out.kind = Kind::text;
  else if (take_end(name, {".jsonl", ".ndjson", ".json"}))
    out.kind = Kind::lines;
  else if (take_end(name, {".tar"}))
    out.kind = Kind::tar;
  return out;
}

// A packed or structured file would be read as if it were prose.
void refuse_other_kinds(const std::string& path) {
  const std::string name = lower(path);
  for (const std::string_view end : {".bz2", ".lz4", ".zip", ".7z", ".rar", ".parquet", ".arrow",
                                     ".pkl", ".npy", ".bin", ".idx"}) {
    require(!name.ends_with(end), [&] {
      return Error(Exit::input,
                   {.what = "this kind of file cannot be prepared",
                    .where = path,
                    .expected = "text (.txt), JSON lines (.jsonl), or an archive of text (.tar), "
                                "plain or packed as .gz, .zst or .xz",
                    .found = std::string(end),
                    .tries = {}});
    });
  }
}

Error cannot_read(const std::string& path, std::string found) {
  return Error(Exit::input, {.what = fmt::format("cannot read {}", path),
                             .where = path,
                             .expected = "a readable file",
                             .found = std::move(found),
                             .tries = {}});
}

// Fills `out` whole; false at the end of the file, and where it ends too early.
bool read_whole(Unpacker& from, char* out, std::size_t bytes) {
  while (bytes > 0) {
    const std::size_t got = from.read(out, bytes);
    if (got == 0) return false;
    out += got;
    bytes -= got;
  }
  return true;
}

// Of a file whose name does not say it.
Kind sniffed(const FileRange& range, Packing packing) {
  std::array<char, tar_block> block;
  const auto from = Unpacker::open(range, packing);
  const bool full = read_whole(*from, block.data(), block.size());
  return full && is_tar({block.data(), block.size()}) ? Kind::tar : Kind::text;
}

InputSource source_of(FileRange range, const std::string& name) {
  const Ending ending = ending_of(name);
  InputSource out = {std::move(range), Kind::text, ending.packing};
  if (ending.kind)
    out.kind = *ending.kind;
  else if (ending.packing != Packing::none)
    out.kind = sniffed(out.range, ending.packing);
  return out;
}

// What a plain archive stands for: its members where some of them are packed or of JSON lines,
// else itself.
void add_archive(const InputSource& archive, std::vector<InputSource>& out) {
  const auto file = Unpacker::open(archive.range, Packing::none);
  const ReadAll read = [&](char* to, std::size_t bytes) { return read_whole(*file, to, bytes); };
  std::vector<InputSource> members;
  while (const auto entry = next_tar_entry(read, archive.range.name)) {
    const Ending ending = ending_of(entry->name);
    const std::int64_t begin = archive.range.begin + file->unpacked();
    if (entry->file && (ending.packing != Packing::none || ending.kind == Kind::lines))
      members.push_back(
          source_of({archive.range.path, fmt::format("{}: {}", archive.range.name, entry->name),
                     begin, begin + entry->size},
                    entry->name));
    file->skip_to(file->unpacked() + in_blocks(entry->size));
  }
  if (members.empty()) members.push_back(archive);
  std::move(members.begin(), members.end(), std::back_inserter(out));
}

void add_file(const std::string& path, std::vector<InputSource>& out) {
  refuse_other_kinds(path);
  struct stat status = {};
  require(::stat(path.c_str(), &status) == 0,
          [&] { return cannot_read(path, std::generic_category().message(errno)); });
  require(S_ISREG(status.st_mode), [&] { return cannot_read(path, "not a regular file"); });
  const InputSource source = source_of({path, path, 0, status.st_size}, path);
  require(status.st_size > 0 || source.kind == Kind::lines, [&] {
    return Error(Exit::input, {.what = "the text file is empty",
                               .where = path,
                               .expected = "at least one byte of text",
                               .found = "0 bytes",
                               .tries = {}});
  });
  Unpacker::open(source.range, Packing::none);  // that it can be read, before anything is begun
  if (source.kind == Kind::tar && source.packing == Packing::none)
    add_archive(source, out);
  else
    out.push_back(source);
}

void add_folder(const std::string& path, std::vector<InputSource>& out) {
  std::vector<std::string> files;
  std::error_code failed;
  for (fs::recursive_directory_iterator at(path, failed), end; !failed && at != end;
       at.increment(failed)) {
    const bool hidden = at->path().filename().native().starts_with('.');
    if (hidden && at->is_directory()) at.disable_recursion_pending();
    const Ending ending = ending_of(at->path().string());
    const bool plain_json = lower(at->path().extension().string()) == ".json";  // rarely of lines
    if (!hidden && at->is_regular_file() && !plain_json &&
        (ending.kind || ending.packing != Packing::none))
      files.push_back(at->path().string());
  }
  require(!failed, [&] { return cannot_read(path, failed.message()); });
  require(!files.empty(), [&] {
    return Error(Exit::input,
                 {.what = "there is no text in the folder",
                  .where = path,
                  .expected = "files that end in .txt, .jsonl or .tar, plain or packed "
                              "as .gz, .zst or .xz",
                  .found = "none",
                  .tries = {}});
  });
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) add_file(file, out);
}

}  // namespace

std::vector<InputSource> find_inputs(const std::vector<std::string>& paths) {
  std::vector<InputSource> out;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored))
      add_folder(path, out);
    else
      add_file(path, out);
  }
  return out;
}

}  // namespace sluice
