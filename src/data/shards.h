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
#include <memory>
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
// no file. Memory: a few megabytes, whatever the number of documents. One thread. Errors:
// Exit::disk.
class ShardWriter {
 public:
  // Makes PREFIX's folder when it is missing. `longest` is for tests: tokens in one sequence.
  ShardWriter(std::string prefix, const Tokenizer& tokenizer, std::int32_t longest = 1 << 30);
  ~ShardWriter();

  // Adds to the open document. REQUIRES: ids inside the tokenizer's vocabulary.
  void append(std::span<const std::int32_t> ids);
  // The same of ids in the form of the .bin.
  void append_bytes(std::span<const std::byte> ids);
  // The .bin is the file at `path`, which exists, is durable and has this XXH3-128; append() is
  // then not called, but adopted() for what it holds of the open document.
  void adopt(std::string path, std::string hash);
  void adopted(std::int64_t tokens) { count(tokens); }
  // Closes the document; `text_bytes` is the size of the text it was made from.
  void end_document(std::int64_t text_bytes);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return documents_; }
  std::int64_t text_bytes() const { return text_bytes_; }

  void finish();   // writes index and sidecar, makes all four files durable under temporary names
  void publish();  // gives them their names, the sidecar last. REQUIRES: finish() was called

 private:
  class Lengths;
  void count(std::int64_t tokens);
  void flush();
  void write_index();
  std::string sidecar_text() const;

  std::string prefix_;
  TokenizerIdentity identity_;
  bool wide_;  // i32 instead of u16
  std::int32_t longest_;
  AtomicFile bin_, idx_, tokenizer_file_, sidecar_;
  Hasher128 hasher_;
  std::string adopted_, adopted_hash_;
  std::int64_t tokens_ = 0, documents_ = 0, text_bytes_ = 0;
  std::unique_ptr<Lengths> lengths_;     // of the closed sequences
  std::vector<std::int64_t> continued_;  // sequences that go on with the document before them
  std::int64_t open_ = 0;                // tokens in the open sequence
  bool open_continues_ = false;
  std::int64_t index_bytes_ = 0;
  std::string index_hash_;
  std::vector<std::byte> pending_;     // for the .bin
  std::vector<std::uint16_t> narrow_;  // conversion buffer
};

// Reads PREFIX (the four files above, or three: the tokenizer is not opened), or token files of
// others, of which nothing is known but their ids:
//   FILE.bin without FILE.idx   raw little-endian u16, as nanoGPT and gigaGPT write it
//   a shard of llm.c            256 i32 (20240520, 1, tokens) and u16 ids, or (20240801, 7, tokens)
//                               and u32 ids; told from the raw kind by the first number
//   a pattern with * or ?       several of these, one after the other by name, as one text
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
  // A file of raw ids: where in the text they begin, where in the file.
  struct Raw {
    MappedFile file;
    std::int64_t first = 0, tokens = 0;
    std::size_t header = 0;
  };
  void open_index();
  void open_sidecar();
  void open_raw(const std::vector<std::string>& paths);
  void read_raw(std::int64_t first, std::span<std::int32_t> out) const;
  [[noreturn]] void refuse_id(std::int64_t token, std::int32_t id) const;

  std::string name_;
  MappedFile bin_, idx_;
  std::vector<Raw> parts_;  // of what others wrote
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
