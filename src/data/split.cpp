// The scanners behind first_piece(). Every character is looked at a few times at most: in the run
// that it ends, in its own piece, and as the end of white space.
#include <array>

#include "data/splitter.h"
#include "data/unicode.h"

namespace sluice {
namespace {

struct Scanned {
  CharClass kind;
  std::size_t bytes;
};

// The classes of the 128 ASCII characters.
constexpr std::array<CharClass, 128> ascii_classes = [] {
  std::array<CharClass, 128> out = {};
  for (unsigned c = 0; c < 128; ++c) {
    const unsigned lower = c | 0x20u;
    if (lower >= 'a' && lower <= 'z') out[c] = CharClass::letter;
    if (c >= '0' && c <= '9') out[c] = CharClass::number;
    if (c == ' ' || (c >= 9 && c <= 13)) out[c] = CharClass::space;
  }
  return out;
}();

Scanned scan(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {ascii_classes[byte], 1};
  const Utf8Char c = first_char(text.substr(at));
  return {c.valid ? class_of(c.code) : CharClass::other, static_cast<std::size_t>(c.bytes)};
}

// The end of the run of one class that begins at `at`, which may be the end of the text.
std::size_t run_end(std::string_view text, std::size_t at, CharClass kind) {
  while (at < text.size()) {
    const Scanned next = scan(text, at);
    if (next.kind != kind) break;
    at += next.bytes;
  }
  return at;
}

bool is_newline(char c) { return c == '\n' || c == '\r'; }

// 's 't 're 've 'm 'll 'd at the front: its length, else 0.
std::size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char a = text[1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (text.size() < 3) return 0;
  const char b = text[2];
  return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

// The same in any case; the long s (U+017F) is an s then.
std::size_t contraction_in_any_case(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  if (text.substr(1).starts_with("\xC5\xBF")) return 3;
  std::array<char, 3> lower = {'\'', 0, 0};
  const std::size_t bytes = text.size() < 3 ? 2 : 3;
  for (std::size_t i = 1; i < bytes; ++i) {
    const char c = text[i];
    lower[i] = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  return contraction({lower.data(), bytes});
}

std::size_t gpt2_piece(std::string_view text) {
  if (const std::size_t length = contraction(text)) return length;

  Scanned first = scan(text, 0);
  std::size_t at = first.bytes;
  if (text[0] == ' ' && text.size() > 1) {
    const Scanned second = scan(text, 1);
    if (second.kind != CharClass::space) first = second, at += second.bytes;
  }
  std::size_t last_start = 0;  // of the run's last character
  while (at < text.size()) {
    const Scanned next = scan(text, at);
    if (next.kind != first.kind) break;
    last_start = at;
    at += next.bytes;
  }
  // A run of white space leaves its last character to what follows; alone, it is a piece.
  const bool gives_back = first.kind == CharClass::space && at < text.size() && last_start > 0;
  return gives_back ? last_start : at;
}

// A run of white space: up to its last line end; else all but its last character, which belongs to
// what follows, if anything does.
std::size_t white_space_piece(std::string_view text, bool whole_at_end) {
  std::size_t at = 0, last_start = 0, after_newline = 0;
  while (at < text.size()) {
    const Scanned next = scan(text, at);
    if (next.kind != CharClass::space) break;
    last_start = at;
    at += next.bytes;
    if (is_newline(text[last_start])) after_newline = at;
  }
  if (at == text.size() && whole_at_end) return at;
  if (after_newline > 0) return after_newline;
  return at < text.size() && last_start > 0 ? last_start : at;
}

std::size_t cl100k_piece(std::string_view text, bool whole_at_end) {
  if (const std::size_t length = contraction_in_any_case(text)) return length;

  const Scanned first = scan(text, 0);
  if (first.kind == CharClass::letter) return run_end(text, first.bytes, CharClass::letter);
  if (first.kind == CharClass::number) {
    std::size_t at = first.bytes;
    for (int digits = 1; digits < 3 && at < text.size(); ++digits) {
      const Scanned next = scan(text, at);
      if (next.kind != CharClass::number) break;
      at += next.bytes;
    }
    return at;
  }
  std::size_t others = first.kind == CharClass::other ? first.bytes : 0;
  if (first.bytes < text.size() && !is_newline(text[0])) {
    const Scanned second = scan(text, first.bytes);
    const std::size_t both = first.bytes + second.bytes;
    if (second.kind == CharClass::letter) return run_end(text, both, CharClass::letter);
    if (second.kind == CharClass::other && text[0] == ' ') others = both;
  }
  if (others == 0) return white_space_piece(text, whole_at_end);
  std::size_t at = run_end(text, others, CharClass::other);
  while (at < text.size() && is_newline(text[at])) ++at;
  return at;
}

struct Known {
  std::string_view pattern;
  Splitter splitter;
};

// Of each splitter, first the spelling that is written to files.
constexpr std::array<Known, 7> known_patterns = {{
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     Splitter::gpt2},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s)",
     Splitter::gpt2},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", Splitter::gpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Splitter::llama3},
    {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*)"
     R"(|\s*[\r\n]|\s+(?!\S)|\s+)",
     Splitter::llama3},
    // `$` means the end of a line to some libraries, and "{1,3}+" any number of times: not these.
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s+(?![\s\S])|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Splitter::cl100k},
    {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+)"
     R"(|\s++$|\s*[\r\n]|\s+(?!\S)|\s)",
     Splitter::cl100k},
}};

}  // namespace

std::size_t first_piece(Splitter splitter, std::string_view text) {
  switch (splitter) {
    case Splitter::none:
      break;
    case Splitter::gpt2:
      return gpt2_piece(text);
    case Splitter::llama3:
    case Splitter::cl100k:
      return cl100k_piece(text, splitter == Splitter::cl100k);
  }
  return text.size();
}

namespace {

// The class of the character that ends where `text` does.
CharClass class_at_end(std::string_view text) {
  const auto last = static_cast<unsigned char>(text.back());
  if (last < 0x80) return ascii_classes[last];
  for (std::size_t bytes = 2; bytes <= 4 && bytes <= text.size(); ++bytes) {
    const Utf8Char c = first_char(text.substr(text.size() - bytes));
    if (c.valid && static_cast<std::size_t>(c.bytes) == bytes) return class_of(c.code);
  }
  return CharClass::other;
}

}  // namespace

// Before white space: no piece holds a character and a space behind it, nor a letter or digit and
// a line end; a mark and its line ends may be one. Behind a line end that stands alone: it is the
// end of a piece whatever follows, and would be at the end of the text too. An unfinished character
// behind it may become white space. No piece looks behind itself.
bool is_safe_cut(std::string_view text, std::size_t at) {
  const char here = text[at];
  if (here == ' ' || here == '\n') {
    const CharClass before = class_at_end(text.substr(0, at));
    if (before == CharClass::space) return false;
    return here == ' ' || before != CharClass::other;
  }
  if (text[at - 1] != '\n' || at < 2) return false;
  if (class_at_end(text.substr(0, at - 1)) == CharClass::space) return false;
  const Utf8Char next = first_char(text.substr(at));
  return next.valid && class_of(next.code) != CharClass::space;
}

std::string_view name_of(Splitter splitter) {
  switch (splitter) {
    case Splitter::none:
      break;
    case Splitter::gpt2:
      return "gpt2";
    case Splitter::llama3:
      return "llama3";
    case Splitter::cl100k:
      return "cl100k";
  }
  return "none";
}

std::optional<Splitter> splitter_named(std::string_view name) {
  for (const Splitter splitter :
       {Splitter::none, Splitter::gpt2, Splitter::llama3, Splitter::cl100k})
    if (name_of(splitter) == name) return splitter;
  return std::nullopt;
}

std::string_view pattern_of(Splitter splitter) {
  for (const Known& known : known_patterns)
    if (known.splitter == splitter) return known.pattern;
  return "";
}

std::optional<Splitter> splitter_of_pattern(std::string_view pattern) {
  for (const Known& known : known_patterns)
    if (known.pattern == pattern) return known.splitter;
  return std::nullopt;
}

}  // namespace sluice
