#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/shard_format.h"
#include "data/shards.h"

namespace sluice {

static_assert(std::endian::native == std::endian::little, "shards are written as memory is");

namespace {

// PREFIX itself, once its folder exists.
const std::string& with_folder(const std::string& prefix) {
  std::error_code failed;
  std::filesystem::create_directories(folder_of(prefix), failed);
  require(!failed, [&] {
    return Error(Exit::disk, {.what = fmt::format("cannot make the folder of {}", prefix),
                              .where = folder_of(prefix),
                              .expected = "a folder that this user may write to",
                              .found = failed.message(),
                              .tries = {}});
  });
  return prefix;
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

TokenizerIdentity identity_of(const Tokenizer& tokenizer) {
  return {std::string(tokenizer.kind()), tokenizer.hash(), tokenizer.vocab_size(),
          tokenizer.end_of_text()};
}

ShardWriter::ShardWriter(std::string prefix, const Tokenizer& tokenizer, std::int32_t longest)
    : prefix_(with_folder(prefix)),
      identity_(identity_of(tokenizer)),
      wide_(identity_.vocab > 65536),
      longest_(longest),
      bin_(prefix_ + ".bin"),
      idx_(prefix_ + ".idx"),
      tokenizer_file_(prefix_ + ".tokenizer.json"),
      sidecar_(prefix_ + ".json"),
      document_starts_{0} {
  tokenizer_file_.append(tokenizer.tokenizer_json());
}

void ShardWriter::append(std::span<const std::int32_t> ids) {
  std::span<const std::byte> bytes = std::as_bytes(ids);
  if (!wide_) {
    narrow_.assign(ids.begin(), ids.end());
    bytes = std::as_bytes(std::span(narrow_));
  }
  hasher_.add(bytes.data(), bytes.size());
  bin_.append(bytes.data(), bytes.size());
  tokens_ += static_cast<std::int64_t>(ids.size());
  open_ += static_cast<std::int64_t>(ids.size());
  for (; open_ > longest_; open_ -= longest_) lengths_.push_back(longest_);
}

void ShardWriter::end_document(std::int64_t text_bytes) {
  lengths_.push_back(static_cast<std::int32_t>(open_));
  document_starts_.push_back(static_cast<std::int64_t>(lengths_.size()));
  open_ = 0;
  text_bytes_ += text_bytes;
}

std::string ShardWriter::index_text() const {
  std::string out(index_magic);
  put(out, std::uint64_t{1});
  put(out, wide_ ? index_i32 : index_u16);
  put(out, std::uint64_t{lengths_.size()});
  put(out, std::uint64_t{document_starts_.size()});
  for (const std::int32_t length : lengths_) put(out, length);
  std::int64_t offset = 0;
  for (const std::int32_t length : lengths_) {
    put(out, offset);
    offset += std::int64_t{length} * (wide_ ? 4 : 2);
  }
  for (const std::int64_t start : document_starts_) put(out, start);
  return out;
}

std::string ShardWriter::sidecar_text(std::string_view index) const {
  nlohmann::ordered_json out;
  out["format"] = sidecar_format;
  out["version"] = sidecar_version;
  out["tokenizer"]["kind"] = identity_.kind;
  out["tokenizer"]["hash"] = identity_.hash;
  out["tokenizer"]["vocab"] = identity_.vocab;
  out["tokenizer"]["end_of_text"] = identity_.end_of_text;
  out["tokens"] = tokens_;
  out["documents"] = documents();
  out["text_bytes"] = text_bytes_;
  out["bin"]["bytes"] = tokens_ * (wide_ ? 4 : 2);
  out["bin"]["xxh3_128"] = hasher_.hex();
  out["idx"]["bytes"] = index.size();
  out["idx"]["xxh3_128"] = hash128_hex(index.data(), index.size());
  return out.dump(2) + "\n";
}

void ShardWriter::finish() {
  require(open_ == 0, [] { return Error("a shard was finished inside a document"); });
  const std::string index = index_text();
  idx_.append(index);
  sidecar_.append(sidecar_text(index));
  for (AtomicFile* file : {&bin_, &idx_, &tokenizer_file_, &sidecar_}) file->finish();
}

void ShardWriter::publish() {
  // Without a sidecar a set is no set: a kill from here on leaves no mixture of old and new.
  unlink(sidecar_.path().c_str());
  for (AtomicFile* file : {&bin_, &idx_, &tokenizer_file_, &sidecar_}) file->publish();
}

}  // namespace sluice
