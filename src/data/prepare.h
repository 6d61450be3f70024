// Text files to token shards: what `sluice prepare` does.
//
// Each input file is one document, in the order given. Every input is looked at before anything is
// written, and the shards appear whole or not at all. Memory is bounded by pieces of about a
// megabyte of text (and, for gpt2, by the longest stretch without white space).
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
  std::string tokenizer;                     // "bytes" | "chars" | "gpt2"
  std::string out;                           // PREFIX
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
