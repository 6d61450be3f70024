// Writing Hugging Face tokenizer.json text, shared by the tokenizers. Keys stand in the order of
// the `tokenizers` library (format version 1.0). Strings must be UTF-8.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/splitter.h"

namespace sluice {

inline constexpr std::string_view end_of_text_name = "<|endoftext|>";

// A token outside the merges. Special ones are never made from text and decode to nothing; the
// others are cut out of a text before it is split, the longest first.
struct AddedToken {
  std::int32_t id = 0;
  std::string text;
  bool special = true;
  bool normalized = false;  // looked for after those that are not
};
AddedToken end_of_text_token(std::int32_t id);

// A JSON string, quoted.
std::string json_string(std::string_view text);

// GPT-2's stand-in for a byte: a printable code point. Bytes 21-7E, A1-AC, AE-FF are themselves,
// the other 68 are U+0100 and on, in byte order.
char32_t byte_symbol(unsigned char byte);
// The stand-ins of all bytes, and back; absent when `symbols` holds anything else.
std::string symbols_of(std::string_view bytes);
std::optional<std::string> bytes_of_symbols(std::string_view symbols);

// What differs between tokenizers; most fields are JSON text.
struct TokenizerJson {
  std::string pre_tokenizer;
  std::string post_processor;
  std::string decoder;
  std::string model;
  std::vector<AddedToken> added;
};
std::string text_of(const TokenizerJson& parts);

// {"token":id,...}; empty names are left out.
std::string vocabulary_json(const std::vector<std::string>& tokens);

struct ByteLevelJson {
  Splitter splitter = Splitter::none;
  std::vector<std::string> tokens;  // names by id
  std::string merges;               // JSON text of a list
  bool whole_pieces = false;
  std::vector<AddedToken> added;
};
std::string byte_level_json(const ByteLevelJson& parts);

}  // namespace sluice
