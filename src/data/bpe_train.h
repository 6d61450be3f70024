// Learns a byte-level BPE from text, with the merges that Hugging Face's BpeTrainer finds.
//
// Ids: 0..255 the bytes in the order of their symbols, then the merges, end of text last. The pair
// that occurs most is merged first; among equals the one whose (left id, right id) is smallest.
// The result depends on the texts and the options, never on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "data/bpe_tokenizer.h"

namespace sluice {

struct BpeTrainOptions {
  std::int32_t vocab = 32000;      // ids in all; fewer when the texts have no more pairs
  std::int64_t min_frequency = 2;  // pairs that occur less often are not merged
  Splitter splitter = Splitter::gpt2;
  int threads = 1;
};

// Each text is split by itself. Memory: about 100 bytes for each different piece, and as much again
// for the pairs; the texts are read where they lie. REQUIRES: vocab >= 257.
// Errors: Exit::input when there is a piece of 4 GiB.
BpeDefinition train_bpe(std::span<const std::string_view> texts, const BpeTrainOptions& options);

}  // namespace sluice
