// Text files to token shards: what `sluice prepare` does.
//
// Each input file is one document, in the order given. Every input is looked at before anything is
// written, and the shards appear whole or not at all. Memory is bounded by eight pieces of about a
// megabyte of text for each thread (for a BPE, by the longest stretch without white space), and by
// the text's different words while a BPE is learnt.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/shards.h"

namespace sluice {

enum class EndOfText : std::uint8_t { after, none };

struct PrepareOptions {
  std::vector<std::string> inputs;
  // "bytes" | "chars" | "gpt2" | a path | "train:VOCABULARY", a BPE learnt from the training side
  std::string tokenizer;
  std::string pattern = {};        // as in find_tokenizer.h; of train:, gpt2 unless said
  std::int64_t min_frequency = 2;  // of train:, pairs that occur less often are not merged
  int threads = 1;                 // they change the time and nothing else
  std::string out;                 // PREFIX
  EndOfText end_of_text = EndOfText::after;  // an end-of-text id after each document, or nowhere
  // Share of the input's bytes, from its end, that becomes PREFIX-val; 0: none. The document in
  // which the cut falls (at a UTF-8 boundary) becomes two, one on each side.
  double validation = 0;
  std::string assets;  // folder with gpt2/vocab.bpe
};

struct PreparedSet {
  std::string prefix;
  std::int64_t tokens = 0, documents = 0, text_bytes = 0;
};

struct PrepareSummary {
  TokenizerIdentity tokenizer;
  PreparedSet train;
  std::optional<PreparedSet> validation;
  double seconds = 0;
};

// Errors: Exit::usage for options; Exit::input for a missing, empty or unreadable file, invalid
// UTF-8 with chars, a share that leaves a side empty; Exit::disk.
PrepareSummary prepare(const PrepareOptions& options);

}  // namespace sluice
