// Token shards: documents as numbers on disk. ShardWriter makes them, TokenFile maps them.
//
// PREFIX.bin             the ids, little-endian, back to back: u16 when the vocabulary is at most
//                        65,536, else i32
// PREFIX.idx             Megatron's index: "MMIDIDX\0\0", u64 version 1, u8 type (8 u16, 4 i32),
//                        u64 sequences, u64 documents + 1, i32 length[], i64 byte offset[],
//                        i64 document[] (its first sequence; the last entry is `sequences`)
// PREFIX.json            sidecar: format and version, tokenizer, counts, sizes and XXH3-128
// PREFIX.tokenizer.json  the tokenizer itself, as Hugging Face reads it
//
// A document is one sequence, unless it is longer than an i32 can say; then it is several.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/hash.h"
#include "data/tokenizer.h"

namespace sluice {

// What must agree between shards, model and prompt.
struct TokenizerIdentity {
  std::string kind;  // Tokenizer::kind()
  std::string hash;  // Tokenizer::hash()
  int vocab = 0;
  int end_of_text = 0;
  bool operator==(const TokenizerIdentity&) const = default;
};
TokenizerIdentity identity_of(const Tokenizer& tokenizer);

// Writes one shard set. Nothing has its final name before publish(); destroyed earlier, it leaves
// no file. One thread. Errors: Exit::disk.
class ShardWriter {
 public:
  // Makes PREFIX's folder when it is missing. `longest` is for tests: tokens in one sequence.
  ShardWriter(std::string prefix, const Tokenizer& tokenizer, std::int32_t longest = 1 << 30);

  // Adds to the open document. REQUIRES: ids inside the tokenizer's vocabulary.
  void append(std::span<const std::int32_t> ids);
  // Closes the document; `text_bytes` is the size of the text it was made from.
  void end_document(std::int64_t text_bytes);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return static_cast<std::int64_t>(document_starts_.size()) - 1; }
  std::int64_t text_bytes() const { return text_bytes_; }

  void finish();   // writes index and sidecar, makes all four files durable under temporary names
  void publish();  // gives them their names, the sidecar last. REQUIRES: finish() was called

 private:
  std::string index_text() const;
  std::string sidecar_text(std::string_view index) const;

  std::string prefix_;
  TokenizerIdentity identity_;
  bool wide_;  // i32 instead of u16
  std::int32_t longest_;
  AtomicFile bin_, idx_, tokenizer_file_, sidecar_;
  Hasher128 hasher_;
  std::int64_t tokens_ = 0, text_bytes_ = 0;
  std::vector<std::int32_t> lengths_;          // of the closed sequences
  std::vector<std::int64_t> document_starts_;  // sequence numbers, beginning with 0
  std::int64_t open_ = 0;                      // tokens in the open sequence
  std::vector<std::uint16_t> narrow_;          // conversion buffer
};

// Reads PREFIX (the four files above, or three: the tokenizer is not opened), or a single FILE.bin
// without FILE.idx: raw little-endian u16, nothing known about its tokenizer.
//
// Opening checks every size, count and offset (Exit::input); checksums are checked by verify().
// Afterwards any number of threads may read; read() never allocates unless it fails.
class TokenFile {
 public:
  explicit TokenFile(const std::string& path);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return documents_; }  // 0 when unknown (raw)
  // Tokens [first, first + out.size()). Errors: outside the file, or an id outside the limit.
  void read(std::int64_t first, std::span<std::int32_t> out) const;
  // From now on read() accepts ids below `vocab` only (it begins with the tokenizer's own, or
  // 65,536 for raw ids). Called before the threads start.
  void limit_ids(int vocab) { id_limit_ = vocab < id_limit_ ? vocab : id_limit_; }

  const std::optional<TokenizerIdentity>& tokenizer() const { return tokenizer_; }
  std::optional<std::int64_t> text_bytes() const { return text_bytes_; }
  const std::string& name() const { return name_; }  // PREFIX, or the raw file's path
  std::string tokenizer_path() const { return name_ + ".tokenizer.json"; }

  // XXH3-128 of the ids' bytes: the data's identity. O(1) from the sidecar; raw: reads the file.
  std::string checksum() const;
  // Reads everything and compares with the sidecar's checksums; nothing to compare for raw ids.
  void verify() const;

 private:
  void open_index();
  void open_sidecar();

  std::string name_;
  MappedFile bin_, idx_;
  bool raw_ = false;
  bool wide_ = false;
  int id_limit_ = 65536;
  std::int64_t tokens_ = 0, documents_ = 0;
  std::optional<TokenizerIdentity> tokenizer_;
  std::optional<std::int64_t> text_bytes_;
  std::string bin_hash_, idx_hash_;
};

// Error (Exit::input) unless the shards were made with `expected`; raw ids pass. `whose` says what
// expects it: "the checkpoint in runs/a".
void require_tokenizer(const TokenFile& tokens, const TokenizerIdentity& expected,
                       std::string_view whose);

}  // namespace sluice
