#include <glob.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/shard_format.h"
#include "data/shards.h"

namespace sluice {

static_assert(std::endian::native == std::endian::little, "shards are read as memory is");

namespace {

using nlohmann::json;

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() &&
         std::string_view(text).substr(text.size() - end.size()) == end;
}

Error missing(const std::string& path) {
  const bool text = exists(path);  // a text where a prefix was meant
  return Error(Exit::input,
               {.what = fmt::format("there are no token shards at {}", path),
                .where = path,
                .expected = fmt::format("{0}.bin, {0}.idx and {0}.json, as `sluice prepare` writes "
                                        "them, or the path of a raw .bin",
                                        path),
                .found = text ? "a file of that very name" : fmt::format("no {}.bin", path),
                .tries = {fmt::format("sluice prepare {} --tokenizer gpt2 --out {}",
                                      text ? path : "INPUT.txt", text ? path + ".tokens" : path)}});
}

Error damaged(const std::string& file, std::string what, std::string expected, std::string found) {
  return Error(Exit::input, {.what = std::move(what),
                             .where = file,
                             .expected = std::move(expected),
                             .found = std::move(found),
                             .tries = {"sluice prepare, to write the shards anew"}});
}

// A little-endian value at a byte offset that the caller has checked.
template <class T>
T get(std::span<const std::byte> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// A field of the sidecar; the field's type is part of the format.
template <class T>
T field(const json& sidecar, const std::string& file, const char* pointer) {
  const json::json_pointer at(pointer);
  const auto fail = [&](std::string expected, std::string found) {
    return damaged(file, "the shards' sidecar is damaged",
                   fmt::format("{} at {}", expected, pointer), std::move(found));
  };
  constexpr bool text = std::is_same_v<T, std::string>;
  const std::string expected = text ? "a string" : "a count";
  require(sidecar.contains(at), [&] { return fail(expected, "nothing"); });
  const json& value = sidecar.at(at);
  if constexpr (text) {
    require(value.is_string(), [&] { return fail(expected, value.dump()); });
  } else {
    require(value.is_number_unsigned() && value.get<std::uint64_t>() <= INT64_MAX,
            [&] { return fail(expected, value.dump()); });
  }
  return value.get<T>();
}

// `out.size()` ids of memory as a file has them.
void widen(const std::byte* from, bool wide, std::span<std::int32_t> out) {
  if (wide) return void(std::memcpy(out.data(), from, out.size_bytes()));
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t id;
    std::memcpy(&id, from + 2 * i, sizeof id);
    out[i] = id;
  }
}

// The files that a pattern like "data/fineweb_train_*.bin" stands for, by name.
std::vector<std::string> matching(const std::string& pattern) {
  glob_t found = {};
  std::vector<std::string> out;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
    out.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  require(!out.empty(), [&] {
    return Error(Exit::input, {.what = "no token file has a name like this",
                               .where = pattern,
                               .expected = "raw 16-bit ids (.bin) or shards of llm.c",
                               .found = "none",
                               .tries = {}});
  });
  return out;
}

// What the first bytes of a raw file say of it.
struct RawForm {
  std::size_t header = 0;
  bool wide = false;
};

// llm.c's header is 256 numbers; the first says what the file is, the second its version.
RawForm raw_form(const MappedFile& file) {
  constexpr std::size_t header = 1024;
  constexpr std::int32_t u16_ids = 20240520, u32_ids = 20240801;
  const auto number = [&](std::size_t at) { return get<std::int32_t>(file.bytes(), 4 * at); };
  const std::int32_t magic = file.size() >= 4 ? number(0) : 0;
  const auto fail = [&](std::string what, std::string expected, std::string found) {
    return Error(Exit::input, {.what = std::move(what),
                               .where = file.path(),
                               .expected = std::move(expected),
                               .found = std::move(found),
                               .tries = {}});
  };
  require(magic != 20240522 && magic != 20240326 && magic != 20240327 && magic != 20240328, [&] {
    return fail("this file of llm.c holds no tokens to train on",
                fmt::format("{} or {} as its first number", u16_ids, u32_ids),
                fmt::format("{}, which is {}", magic,
                            magic == 20240522   ? "an evaluation set"
                            : magic == 20240328 ? "a tokenizer"
                                                : "a model"));
  });
  if (magic != u16_ids && magic != u32_ids) return {};
  const bool wide = magic == u32_ids;
  require(file.size() >= header, [&] {
    return fail("this shard of llm.c is truncated", "a header of 1024 bytes",
                fmt::format("{} bytes", file.size()));
  });
  const std::int32_t version = wide ? 7 : 1;
  require(number(1) == version, [&] {
    return fail("this shard of llm.c has a version that is not read",
                fmt::format("version {}", version), fmt::format("version {}", number(1)));
  });
  const std::int64_t bytes = std::int64_t{number(2)} * (wide ? 4 : 2);
  require(number(2) > 0 && header + static_cast<std::size_t>(bytes) == file.size(), [&] {
    return fail("the size of this shard of llm.c is not what its header says",
                fmt::format("{} bytes, for {} tokens", 1024 + bytes, number(2)),
                fmt::format("{} bytes", file.size()));
  });
  return {header, wide};
}

}  // namespace

void TokenFile::open_raw(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    Raw& part = parts_.emplace_back();
    part.file = MappedFile(path);
    const RawForm form = raw_form(part.file);
    require(parts_.size() == 1 || wide_ == form.wide, [&] {
      return damaged(path, "the files have ids of different widths",
                     fmt::format("{} bytes for each id, as in {}", wide_ ? 4 : 2, paths[0]),
                     fmt::format("{}", form.wide ? 4 : 2));
    });
    wide_ = form.wide;
    part.header = form.header;
    const std::size_t bytes = part.file.size() - part.header;
    require(bytes > 0 && bytes % 2 == 0, [&] {
      return Error(Exit::input, {.what = "this is no file of raw token ids",
                                 .where = path,
                                 .expected = "a whole number of 16-bit ids, not 0",
                                 .found = fmt::format("{} bytes", bytes),
                                 .tries = {}});
    });
    part.first = tokens_;
    part.tokens = static_cast<std::int64_t>(bytes / (wide_ ? 4 : 2));
    tokens_ += part.tokens;
  }
  if (wide_) id_limit_ = std::numeric_limits<int>::max();
}

void TokenFile::read_raw(std::int64_t first, std::span<std::int32_t> out) const {
  auto part = std::upper_bound(parts_.begin(), parts_.end(), first,
                               [](std::int64_t at, const Raw& raw) { return at < raw.first; });
  for (--part; !out.empty(); ++part) {
    const std::int64_t skipped = first - part->first;
    const auto count = static_cast<std::size_t>(
        std::min(part->tokens - skipped, static_cast<std::int64_t>(out.size())));
    const std::size_t at = part->header + static_cast<std::size_t>(skipped) * (wide_ ? 4 : 2);
    widen(part->file.bytes().data() + at, wide_, out.first(count));
    out = out.subspan(count);
    first += static_cast<std::int64_t>(count);
  }
}

TokenFile::TokenFile(const std::string& path) : name_(path) {
  if (path.find_first_of("*?") != std::string::npos && !exists(path) && !exists(path + ".bin")) {
    raw_ = true;
    open_raw(matching(path));
    return;
  }
  if (ends_with(path, ".bin")) {
    const std::string prefix = path.substr(0, path.size() - 4);
    if (exists(prefix + ".idx")) {
      name_ = prefix;
    } else {
      raw_ = true;
    }
  }
  if (raw_) {
    open_raw({name_});
    return;
  }
  require(exists(name_ + ".bin"), [&] { return missing(name_); });
  bin_ = MappedFile(name_ + ".bin");
  open_sidecar();
  open_index();
}

void TokenFile::open_sidecar() {
  const std::string file = name_ + ".json";
  require(exists(file), [&] {
    return damaged(file, "the shards are incomplete", "the sidecar that `sluice prepare` writes",
                   fmt::format("no {}", file));
  });
  const json sidecar = json::parse(read_file(file, std::size_t{1} << 20), nullptr, false);
  require(sidecar.is_object(), [&] {
    return damaged(file, "the shards' sidecar is damaged", "a JSON object", "other text");
  });
  const auto format = field<std::string>(sidecar, file, "/format");
  const auto version = field<std::int64_t>(sidecar, file, "/version");
  require(format == sidecar_format && version == sidecar_version, [&] {
    return damaged(file, "these shards have a format that this version does not read",
                   fmt::format("{} {}", sidecar_format, sidecar_version),
                   fmt::format("{} {}", format, version));
  });
  const auto small = [&](const char* pointer, std::int64_t least) {
    const auto value = field<std::int64_t>(sidecar, file, pointer);
    require(value >= least && value <= std::int64_t{1} << 24, [&] {
      return damaged(file, "the shards' sidecar is damaged",
                     fmt::format("{} to 16,777,216 at {}", least, pointer),
                     fmt::format("{}", value));
    });
    return static_cast<int>(value);
  };
  tokenizer_ = TokenizerIdentity{.kind = field<std::string>(sidecar, file, "/tokenizer/kind"),
                                 .hash = field<std::string>(sidecar, file, "/tokenizer/hash"),
                                 .vocab = small("/tokenizer/vocab", 1),
                                 .end_of_text = small("/tokenizer/end_of_text", 0)};
  require(tokenizer_->end_of_text < tokenizer_->vocab, [&] {
    return damaged(file, "the shards' sidecar is damaged", "end_of_text below vocab",
                   fmt::format("{} of {}", tokenizer_->end_of_text, tokenizer_->vocab));
  });
  id_limit_ = tokenizer_->vocab;
  tokens_ = field<std::int64_t>(sidecar, file, "/tokens");
  documents_ = field<std::int64_t>(sidecar, file, "/documents");
  text_bytes_ = field<std::int64_t>(sidecar, file, "/text_bytes");
  bin_hash_ = field<std::string>(sidecar, file, "/bin/xxh3_128");
  idx_hash_ = field<std::string>(sidecar, file, "/idx/xxh3_128");
  const auto bin_bytes = field<std::int64_t>(sidecar, file, "/bin/bytes");
  require(static_cast<std::uint64_t>(bin_bytes) == bin_.size(), [&] {
    return damaged(bin_.path(), "the token shard is truncated or from another run",
                   fmt::format("{} bytes, as {} says", bin_bytes, file),
                   fmt::format("{} bytes", bin_.size()));
  });
}

// Sizes first, then offsets: nothing is read that the file's size has not vouched for.
void TokenFile::open_index() {
  const std::string file = name_ + ".idx";
  const auto fail = [&](std::string expected, std::string found) {
    return damaged(file, "the shards' index is damaged", std::move(expected), std::move(found));
  };
  idx_ = MappedFile(file);
  const std::span<const std::byte> bytes = idx_.bytes();
  require(bytes.size() >= index_header && idx_.text().substr(0, index_magic.size()) == index_magic,
          [&] {
            return fail(
                fmt::format("a Megatron index (MMIDIDX) of at least {} bytes", index_header),
                bytes.size() < index_header ? fmt::format("{} bytes", bytes.size())
                                            : "another kind of file");
          });
  const auto version = get<std::uint64_t>(bytes, 9);
  require(version == 1, [&] { return fail("version 1", fmt::format("version {}", version)); });
  const auto type = get<std::uint8_t>(bytes, 17);
  require(type == index_u16 || type == index_i32, [&] {
    return fail("element type 8 (16-bit) or 4 (32-bit)", fmt::format("element type {}", type));
  });
  wide_ = type == index_i32;
  const auto sequences = get<std::uint64_t>(bytes, 18);
  const auto starts = get<std::uint64_t>(bytes, 26);
  const std::uint64_t room = bytes.size() - index_header;
  const bool fits = sequences <= room / 12 && starts <= room / 8 &&
                    sequences * 12 + starts * 8 == room && starts >= 1;
  require(fits, [&] {
    return fail(fmt::format("the size for {} sequences, {} documents", sequences, starts - 1),
                fmt::format("{} bytes", bytes.size()));
  });
  const std::uint64_t width = wide_ ? 4 : 2;
  std::uint64_t end = 0;  // of the sequences so far, in bytes
  for (std::uint64_t i = 0; i < sequences; ++i) {
    const auto length = get<std::int32_t>(bytes, index_header + 4 * i);
    const auto offset = get<std::uint64_t>(bytes, index_header + 4 * sequences + 8 * i);
    const bool inside = length >= 0 && offset == end &&
                        static_cast<std::uint64_t>(length) <= (bin_.size() - end) / width;
    require(inside, [&] {
      return fail(fmt::format("sequence {} at byte {} and inside the {} bytes of {}", i, end,
                              bin_.size(), bin_.path()),
                  fmt::format("{} tokens at byte {}", length, offset));
    });
    end += static_cast<std::uint64_t>(length) * width;
  }
  require(end == bin_.size() && end == static_cast<std::uint64_t>(tokens_) * width, [&] {
    return fail(fmt::format("{} tokens", tokens_), fmt::format("{} tokens", end / width));
  });
  std::int64_t previous = 0;
  for (std::uint64_t i = 0; i < starts; ++i) {
    const auto start = get<std::int64_t>(bytes, index_header + 12 * sequences + 8 * i);
    const bool ordered = i == 0 ? start == 0 : start >= previous;
    const bool last = i + 1 < starts || static_cast<std::uint64_t>(start) == sequences;
    require(ordered && last, [&] {
      return fail("documents in ascending order, up to the last sequence",
                  fmt::format("document {} at sequence {}", i, start));
    });
    previous = start;
  }
  require(static_cast<std::uint64_t>(documents_) == starts - 1, [&] {
    return fail(fmt::format("{} documents, as the sidecar says", documents_),
                fmt::format("{}", starts - 1));
  });
}

void TokenFile::read(std::int64_t first, std::span<std::int32_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  require(first >= 0 && count <= tokens_ && first <= tokens_ - count, [&] {
    return Error(fmt::format("tokens {} to {} of {} were asked from {}", first, first + count,
                             tokens_, name_));
  });
  if (raw_)
    read_raw(first, out);
  else
    widen(bin_.bytes().data() + (wide_ ? 4 : 2) * first, wide_, out);
  std::uint32_t largest = 0;  // a negative i32 is a very large one
  for (const std::int32_t id : out) largest = std::max(largest, static_cast<std::uint32_t>(id));
  if (largest < static_cast<std::uint32_t>(id_limit_) || out.empty()) return;
  std::size_t at = 0;
  while (static_cast<std::uint32_t>(out[at]) != largest) ++at;
  refuse_id(first + static_cast<std::int64_t>(at), out[at]);
}

void TokenFile::refuse_id(std::int64_t token, std::int32_t id) const {
  std::string file = bin_.path();
  for (const Raw& part : parts_)
    if (token >= part.first && token < part.first + part.tokens)
      file = part.file.path(), token -= part.first;
  throw Error(Exit::input, {.what = "a token id is outside the vocabulary",
                            .where = fmt::format("{} token {}", file, token),
                            .expected = fmt::format("ids below {}", id_limit_),
                            .found = fmt::format("{}", static_cast<std::uint32_t>(id)),
                            .tries = {}});
}

std::string TokenFile::checksum() const {
  if (!raw_) return bin_hash_;
  Hasher128 hasher;
  for (const Raw& part : parts_)
    hasher.add(part.file.bytes().data() + part.header, part.file.size() - part.header);
  return hasher.hex();
}

void TokenFile::verify() const {
  if (raw_) return;
  const auto check = [](const MappedFile& file, const std::string& expected) {
    const std::string found = hash128_hex(file.bytes().data(), file.size());
    require(found == expected, [&] {
      return damaged(file.path(), "the checksum of a token shard is wrong",
                     fmt::format("XXH3-128 {}", expected), fmt::format("XXH3-128 {}", found));
    });
  };
  check(bin_, bin_hash_);
  check(idx_, idx_hash_);
}

void require_tokenizer(const TokenFile& tokens, const TokenizerIdentity& expected,
                       std::string_view whose) {
  if (!tokens.tokenizer() || *tokens.tokenizer() == expected) return;
  const auto said = [](const TokenizerIdentity& t) {
    return fmt::format("{} with {} ids, hash {}", t.kind, t.vocab, t.hash.substr(0, 12));
  };
  throw Error(Exit::input,
              {.what = "the shards were made with another tokenizer",
               .where = tokens.name(),
               .expected = fmt::format("{} ({})", said(expected), whose),
               .found = said(*tokens.tokenizer()),
               .tries = {fmt::format("sluice prepare INPUT.txt --tokenizer {} --out PREFIX",
                                     expected.kind == "bpe" ? "FILE" : expected.kind)}});
}

}  // namespace sluice
