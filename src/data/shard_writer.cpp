#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/fault.h"
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

// A file and the checksum of what goes into it, in large pieces.
class Stream {
 public:
  explicit Stream(AtomicFile& file) : file_(file) {}

  template <class T>
  void put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    if (text_.size() >= std::size_t{1} << 20) flush();
  }
  void put(std::string_view text) { text_ += text; }
  void flush() {
    hasher_.add(text_.data(), text_.size());
    file_.append(text_);
    bytes_ += static_cast<std::int64_t>(text_.size());
    text_.clear();
  }
  std::int64_t bytes() const { return bytes_; }
  std::string hash() const { return hasher_.hex(); }

 private:
  AtomicFile& file_;
  Hasher128 hasher_;
  std::string text_;
  std::int64_t bytes_ = 0;
};

}  // namespace

// Numbers in their order: the newest million in memory, those before in a file without a name.
class ShardWriter::Lengths {
 public:
  explicit Lengths(std::string beside) : path_(std::move(beside)) {}
  Lengths(const Lengths&) = delete;
  Lengths& operator=(const Lengths&) = delete;
  ~Lengths() {
    if (file_ >= 0) close(file_);
  }

  std::int64_t size() const { return spilled_ + static_cast<std::int64_t>(newest_.size()); }
  void add(std::int32_t length) {
    newest_.push_back(length);
    if (newest_.size() == most) spill();
  }
  template <class Take>
  void each(Take take) const {
    std::vector<std::int32_t> part(most);
    for (std::int64_t at = 0; at < spilled_; at += most) {
      const ssize_t bytes = most * sizeof(std::int32_t);
      require(pread(file_, part.data(), most * sizeof(std::int32_t), at * 4) == bytes,
              [&] { return disk_failed(); });
      for (const std::int32_t length : part) take(length);
    }
    for (const std::int32_t length : newest_) take(length);
  }

 private:
  static constexpr std::int64_t most = 1 << 20;
  Error disk_failed() const {
    return Error(Exit::disk, {.what = fmt::format("cannot write {}", path_),
                              .where = path_,
                              .expected = "a folder with room that this user may write to",
                              .found = std::generic_category().message(errno),
                              .tries = {}});
  }
  void spill() {
    if (file_ < 0) {
      file_ = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
      require(file_ >= 0, [&] { return disk_failed(); });
      unlink(path_.c_str());
    }
    const ssize_t bytes = most * sizeof(std::int32_t);
    require(pwrite(file_, newest_.data(), static_cast<std::size_t>(bytes), spilled_ * 4) == bytes,
            [&] { return disk_failed(); });
    spilled_ += most;
    newest_.clear();
  }
  std::string path_;
  int file_ = -1;
  std::int64_t spilled_ = 0;
  std::vector<std::int32_t> newest_;
};

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
      lengths_(std::make_unique<Lengths>(prefix_ + ".lengths.tmp")) {
  tokenizer_file_.append(tokenizer.tokenizer_json());
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::append(std::span<const std::int32_t> ids) {
  std::span<const std::byte> bytes = std::as_bytes(ids);
  if (!wide_) {
    narrow_.assign(ids.begin(), ids.end());
    bytes = std::as_bytes(std::span(narrow_));
  }
  append_bytes(bytes);
}

void ShardWriter::append_bytes(std::span<const std::byte> ids) {
  constexpr std::size_t large = std::size_t{1} << 20;
  pending_.insert(pending_.end(), ids.begin(), ids.end());
  if (pending_.size() >= large) flush();
  count(static_cast<std::int64_t>(ids.size() / (wide_ ? 4 : 2)));
}

void ShardWriter::flush() {
  hasher_.add(pending_.data(), pending_.size());
  bin_.append(pending_.data(), pending_.size());
  pending_.clear();
}

void ShardWriter::adopt(std::string path, std::string hash) {
  adopted_ = std::move(path);
  adopted_hash_ = std::move(hash);
}

void ShardWriter::count(std::int64_t tokens) {
  tokens_ += tokens;
  open_ += tokens;
  for (; open_ > longest_; open_ -= longest_) {
    if (open_continues_) continued_.push_back(lengths_->size());
    lengths_->add(longest_);
    open_continues_ = true;
  }
}

void ShardWriter::end_document(std::int64_t text_bytes) {
  if (open_continues_) continued_.push_back(lengths_->size());
  lengths_->add(static_cast<std::int32_t>(open_));
  ++documents_;
  open_ = 0;
  open_continues_ = false;
  text_bytes_ += text_bytes;
}

void ShardWriter::write_index() {
  Stream out(idx_);
  out.put(index_magic);
  out.put(std::uint64_t{1});
  out.put(wide_ ? index_i32 : index_u16);
  out.put(static_cast<std::uint64_t>(lengths_->size()));
  out.put(static_cast<std::uint64_t>(documents_ + 1));
  lengths_->each([&](std::int32_t length) { out.put(length); });
  std::int64_t offset = 0;
  lengths_->each([&](std::int32_t length) {
    out.put(offset);
    offset += std::int64_t{length} * (wide_ ? 4 : 2);
  });
  std::size_t passed = 0;
  for (std::int64_t sequence = 0; sequence <= lengths_->size(); ++sequence) {
    if (passed < continued_.size() && continued_[passed] == sequence)
      ++passed;
    else
      out.put(sequence);
  }
  out.flush();
  index_bytes_ = out.bytes();
  index_hash_ = out.hash();
}

std::string ShardWriter::sidecar_text() const {
  nlohmann::ordered_json out;
  out["format"] = sidecar_format;
  out["version"] = sidecar_version;
  out["tokenizer"]["kind"] = identity_.kind;
  out["tokenizer"]["hash"] = identity_.hash;
  out["tokenizer"]["vocab"] = identity_.vocab;
  out["tokenizer"]["end_of_text"] = identity_.end_of_text;
  out["tokens"] = tokens_;
  out["documents"] = documents_;
  out["text_bytes"] = text_bytes_;
  out["bin"]["bytes"] = tokens_ * (wide_ ? 4 : 2);
  out["bin"]["xxh3_128"] = adopted_.empty() ? hasher_.hex() : adopted_hash_;
  out["idx"]["bytes"] = index_bytes_;
  out["idx"]["xxh3_128"] = index_hash_;
  return out.dump(2) + "\n";
}

void ShardWriter::finish() {
  require(open_ == 0, [] { return Error("a shard was finished inside a document"); });
  flush();
  write_index();
  sidecar_.append(sidecar_text());
  for (AtomicFile* file : {&bin_, &idx_, &tokenizer_file_, &sidecar_}) file->finish();
}

void ShardWriter::publish() {
  // Without a sidecar a set is no set: a kill from here on leaves no mixture of old and new.
  unlink(sidecar_.path().c_str());
  if (!adopted_.empty()) {  // a second name, so that who is killed here can do this again
    const std::string temporary = bin_.path() + ".tmp";
    unlink(temporary.c_str());
    if (link(adopted_.c_str(), temporary.c_str()) != 0)
      require(rename(adopted_.c_str(), temporary.c_str()) == 0,
              [&] { return disk_error("write", bin_.path(), errno); });
  }
  for (AtomicFile* file : {&bin_, &idx_, &tokenizer_file_, &sidecar_}) file->publish();
}

}  // namespace sluice
