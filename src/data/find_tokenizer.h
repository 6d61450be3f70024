// From what a person says to a tokenizer: a kind, or a file or folder of one.
#pragma once

#include <string>

#include "data/tokenizer.h"

namespace sluice {

struct TokenizerChoice {
  std::string name;     // "bytes", "gpt2", or a path for load_tokenizer()
  std::string pattern;  // "", or the name of a splitter for files that hold none
  std::string assets;   // folder with gpt2/vocab.bpe
};

// Whether it is such a kind, or the path of something.
bool names_tokenizer(const std::string& name);

// The error of a name that is neither a kind nor a path (Exit::usage). `kinds` are listed.
[[noreturn]] void throw_no_such_tokenizer(const std::string& name, const std::string& kinds);

// Errors: as load_tokenizer(); no such kind or path; GPT-2's merges that are not there.
TokenizerPtr find_tokenizer(const TokenizerChoice& choice);

}  // namespace sluice
