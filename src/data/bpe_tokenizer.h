// A byte-level BPE tokenizer from its parts, whatever file they came from.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/splitter.h"
#include "data/tokenizer.h"
#include "data/tokenizer_json.h"

namespace sluice {

struct BpeDefinition {
  struct Pair {
    std::int32_t left = 0, right = 0;
    std::int32_t rank = 0;  // the lowest first
    std::int32_t merged = 0;
  };
  std::string kind = "bpe";
  std::string hash;  // empty: of the tokenizer_json()
  Splitter splitter = Splitter::gpt2;
  // The bytes of each id; empty where the id is none, or only added. The 256 single bytes are all
  // there.
  std::vector<std::string> tokens;
  // Names in the file of tokens that are not made of byte symbols: their bytes are the name.
  std::map<std::int32_t, std::string> literal;
  std::vector<Pair> pairs;
  bool whole_pieces = false;  // a piece that is a token is that token, whatever the merges say
  std::vector<AddedToken> added;
  std::int32_t end_of_text = 0;  // one of the added
};

// REQUIRES: what the comments above say; no pair makes a special token.
TokenizerPtr make_bpe_tokenizer(BpeDefinition definition);

// When `definition` is GPT-2's published tokenizer: the content of its vocab.bpe, else "".
std::string gpt2_merges_of(const BpeDefinition& definition);

// The 256 bytes in the order of their symbols, as GPT-2 and Hugging Face's trainer number them.
std::vector<std::string> bytes_by_symbol();

}  // namespace sluice
