// What `sluice prepare` has made so far, in a folder of its own: the tokens of all documents in the
// input's order, where each document ends, and a journal that says how far it is true. Killed at
// any moment, the work goes on at the last commit.
//
//   PREFIX.partial/tokens     ids, u16 or i32, little-endian
//   PREFIX.partial/documents  for each document two i64: tokens and bytes of text up to its end
//   PREFIX.partial/journal    JSON: what of the two counts, with XXH3-128, and where to read on
//   PREFIX.partial/tokenizer.json   when it was made from the text
//
// A commit counts only if the bytes that it speaks of are there with their hash; otherwise the one
// before that was made durable counts, or nothing. One thread. Errors: Exit::disk.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/fault.h"
#include "core/hash.h"
#include "data/pieces.h"

namespace sluice {

struct StoreProgress {
  std::size_t source = 0;   // the first that is not done
  ReadPlace place;          // in it
  std::int64_t split = -1;  // documents before validation begins, when the input says it
  BadLines bad;
};

class TokenStore {
 public:
  // Opens PREFIX.partial and goes on with it if its journal has this `fingerprint` (of inputs and
  // options); else begins anew. `width`: bytes of an id.
  TokenStore(const std::string& prefix, std::string fingerprint, int width, Faults* faults);
  // Takes the folder away unless something in it was committed.
  ~TokenStore();
  TokenStore(const TokenStore&) = delete;
  TokenStore& operator=(const TokenStore&) = delete;

  const StoreProgress& progress() const { return progress_; }
  bool resumed() const { return resumed_; }
  bool begun_anew() const { return begun_anew_; }  // there was one that could not be gone on with

  // Adds a piece's ids and documents.
  void add(const Piece& piece);
  // From now on resuming begins here.
  void commit(StoreProgress progress);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return documents_; }
  std::int64_t text_bytes() const { return text_bytes_; }
  int width() const { return width_; }
  std::string tokens_path() const { return folder_ + "/tokens"; }
  std::string tokens_hash() const { return tokens_hash_->hex(); }

  struct Document {
    std::int64_t begin = 0, end = 0;  // tokens
    std::int64_t text_bytes = 0;
  };
  // Documents [first, first + out.size()).
  void read_documents(std::int64_t first, std::span<Document> out) const;
  void read_tokens(std::int64_t first, std::span<std::byte> out) const;
  void sync();    // makes what was added durable
  void remove();  // the folder: its work is done

  static std::string folder_of(const std::string& prefix) { return prefix + ".partial"; }

 private:
  class File;
  bool go_on(const std::string& journal);
  void begin();
  std::string journal_text() const;

  std::string folder_, fingerprint_;
  int width_;
  Faults* faults_;
  std::unique_ptr<File> tokens_file_, documents_file_;
  std::unique_ptr<Hasher128> tokens_hash_, documents_hash_;
  StoreProgress progress_;
  bool resumed_ = false, begun_anew_ = false, committed_ = false;
  std::int64_t tokens_ = 0, documents_ = 0, text_bytes_ = 0;
  std::int64_t ended_tokens_ = 0, ended_bytes_ = 0;  // up to the last end of a document
  std::int64_t synced_at_ = 0;                       // milliseconds of a steady clock
};

}  // namespace sluice
