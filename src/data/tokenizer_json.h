// Writing Hugging Face tokenizer.json text, shared by the three tokenizers. Keys stand in the order
// of the `tokenizers` library (format version 1.0). Strings must be UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

inline constexpr std::string_view end_of_text_name = "<|endoftext|>";

// A JSON string, quoted.
std::string json_string(std::string_view text);

// GPT-2's stand-in for a byte: a printable code point. Bytes 21-7E, A1-AC, AE-FF are themselves,
// the other 68 are U+0100 and on, in byte order.
char32_t byte_symbol(unsigned char byte);

// What differs between tokenizers; each field is JSON text.
struct TokenizerJson {
  std::string pre_tokenizer;
  std::string post_processor;
  std::string decoder;
  std::string model;
  int end_of_text = 0;
};
std::string text_of(const TokenizerJson& parts);

// {"token":id,...} with ids 0, 1, 2, …
std::string vocabulary_json(const std::vector<std::string>& tokens);

// A ByteLevel BPE. `merges` is JSON text of a list; `split` says whether GPT-2's pattern applies.
std::string byte_level_json(const std::vector<std::string>& tokens, std::string_view merges,
                            bool split, int end_of_text);

}  // namespace sluice
