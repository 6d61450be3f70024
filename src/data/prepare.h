// Text to token shards: what `sluice prepare` does.
//
// A text file is one document, a JSON line is one, a .txt in an archive is one; in the order given,
// unless they are shuffled. Every input is looked at before anything is written; the shards appear
// whole or not at all. Same options, same bytes, for any number of threads and however often the
// work was killed: it is kept in PREFIX.partial (data/token_store.h) and goes on at the last
// commit.
//
// Memory: piece_budget() of text, its tokens (up to 16 bytes for each byte of it), the windows of
// four packed files; one document of 64 MiB or one stretch of 16 MiB without white space may come
// on top. Shuffling takes 4 bytes for each document, learning a BPE what bpe_train.h says.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/fault.h"
#include "data/clean.h"
#include "data/pieces.h"
#include "data/shards.h"

namespace sluice {

enum class EndOfText : std::uint8_t { after, none };
enum class OnBadLine : std::uint8_t { fail, skip };
// What `validation` is a share of. automatic: bytes where the inputs are plain text that nothing is
// done to, else documents.
enum class ShareOf : std::uint8_t { automatic, bytes, characters, documents };

struct PrepareProgress {
  std::int64_t read = 0, total = 0;  // bytes of the inputs, as they lie on disk
  std::int64_t begun_at = 0;         // of them, those that an earlier call had done
  std::int64_t tokens = 0, documents = 0;
  std::string_view doing;  // "reading", "learning", "tokenizing" or "writing"
};

struct PrepareOptions {
  std::vector<std::string> inputs;  // files and folders: data/inputs.h
  // "bytes" | "chars" | "gpt2" | a path | "train:VOCABULARY", a BPE learnt from the training side
  std::string tokenizer;
  std::string pattern = {};        // as in find_tokenizer.h; of train:, gpt2 unless said
  std::int64_t min_frequency = 2;  // of train:, pairs that occur less often are not merged
  int threads = 1;                 // they change the time and nothing else
  std::string out;                 // PREFIX
  EndOfText end_of_text = EndOfText::after;  // an end-of-text id after each document, or nowhere
  // Share of the input, from its end, that becomes PREFIX-val; 0: none. Of bytes or characters: the
  // document in which the cut falls (at a UTF-8 boundary) becomes two, one on each side. Of
  // documents: the last ceil(share * documents), or the first of the shuffled ones.
  double validation = 0;
  std::string assets;  // folder with gpt2/vocab.bpe

  std::string field = "text";  // of a JSON line
  OnBadLine on_bad_line = OnBadLine::fail;
  Clean clean = Clean::none;
  ShareOf share_of = ShareOf::automatic;
  // Documents in the order of numpy's permutation of this seed, as Hugging Face's datasets do it.
  std::optional<std::uint64_t> shuffle = {};
  std::function<void(const PrepareProgress&)> progress = {};  // often
  Faults* faults = nullptr;
};

struct PreparedSet {
  std::string prefix;
  std::int64_t tokens = 0, documents = 0, text_bytes = 0;
};

struct PrepareSummary {
  TokenizerIdentity tokenizer;
  PreparedSet train;
  std::optional<PreparedSet> validation;
  BadLines bad;               // left out
  std::int64_t begun_at = 0;  // bytes of the inputs that an earlier call had done
  bool begun_anew = false;    // what an earlier call left was of other inputs or options
  double seconds = 0;
};

// Errors: Exit::usage for options; Exit::input for a missing, empty, damaged or unreadable file, a
// bad line, invalid UTF-8 with chars, no document at all, a share that leaves a side empty;
// Exit::disk, after which the same call goes on.
PrepareSummary prepare(const PrepareOptions& options);

}  // namespace sluice
