// Code points: reading UTF-8 and the three character classes that GPT-2's splitter asks for.
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

// Sorted, disjoint; what lies between is `other`. Generated: tools/gen_unicode.py.
struct CharRange {
  char32_t first, last;
  CharClass kind;
};
extern const std::span<const CharRange> char_ranges;

// \p{L}, \p{N}, White_Space (25 code points), else other. Unicode 14.0.0.
CharClass class_of(char32_t code);

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
