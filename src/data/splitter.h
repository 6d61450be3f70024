// Splitters: where a text is cut into the pieces that byte-pair merges work in.
//
// Scanners by hand over Unicode tables, one pass, no regular expression: time is linear whatever
// the text. Pure functions; any thread. Bytes that are no UTF-8 count as characters that are
// neither letter nor number nor space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice {

enum class Splitter : std::uint8_t {
  none,  // the whole text is one piece
  // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  gpt2,
  // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
  // |\s*[\r\n]+|\s+(?!\S)|\s+
  llama3,
  // The same, but white space at the end of the text is one piece.
  cl100k,
};

// The end of the first piece of `text`. REQUIRES: text is not empty.
std::size_t first_piece(Splitter splitter, std::string_view text);

// Whether no splitter joins the characters on both sides of text[at], and none looks across: the
// pieces of the two parts are, together, those of the whole. REQUIRES: 0 < at < text.size().
bool is_safe_cut(std::string_view text, std::size_t at);

// "none", "gpt2", "llama3", "cl100k", and back.
std::string_view name_of(Splitter splitter);
std::optional<Splitter> splitter_named(std::string_view name);

// The published regular expression that a splitter stands for, and the splitter of one of those
// that are known: several spellings of each. Any other is absent.
std::string_view pattern_of(Splitter splitter);
std::optional<Splitter> splitter_of_pattern(std::string_view pattern);

}  // namespace sluice
