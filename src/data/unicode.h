// Code points: reading UTF-8 and the three character classes that the splitters ask for.
// Pure functions over constant tables; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace sluice {

enum class CharClass : std::uint8_t { other, letter, number, space };

// The classes of 128 code points in a row, 2 bits each, are one block of four words; char_blocks
// says which block describes code points [128 i, 128 i + 128). Generated: tools/gen_unicode.py.
extern const std::array<std::uint8_t, 2048> char_blocks;
extern const std::span<const std::uint64_t> char_class_words;

// \p{L}, \p{N}, White_Space (25 code points), else other. Unicode 16.0.0, as tiktoken and Hugging
// Face's tokenizers have it.
inline CharClass class_of(char32_t code) {
  if (code >= 128 * char_blocks.size()) return CharClass::other;
  const std::size_t word = std::size_t{4} * char_blocks[code >> 7] + (code >> 5 & 3);
  return static_cast<CharClass>(char_class_words[word] >> 2 * (code & 31) & 3);
}

// One character at the front of some text. Bytes that are no UTF-8 (overlong forms, surrogates and
// values above U+10FFFF included) count as characters of one byte, valid = false, code = the byte.
struct Utf8Char {
  char32_t code;
  int bytes;
  bool valid;
};
// REQUIRES: text is not empty.
Utf8Char first_char(std::string_view text);

// Appends the UTF-8 form of a code point.
void append_utf8(char32_t code, std::string& out);

// The largest position <= `at` that does not lie inside a UTF-8 character of `text`.
std::size_t char_boundary(std::string_view text, std::size_t at);

// The error of a text that had to be UTF-8 (Exit::input); `where` names file and byte.
Error not_utf8(std::string where, char32_t byte);

}  // namespace sluice
