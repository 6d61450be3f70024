// The scanner behind gpt2_piece(). Every character is looked at twice at most: once in the run that
// it ends, once in its own piece.
#include "data/tokenizer.h"
#include "data/unicode.h"

namespace sluice {
namespace {

struct Scanned {
  CharClass kind;
  std::size_t bytes;
};

Scanned scan(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) {
    const unsigned lower = byte | 0x20u;
    if (lower >= 'a' && lower <= 'z') return {CharClass::letter, 1};
    if (byte >= '0' && byte <= '9') return {CharClass::number, 1};
    if (byte == ' ' || (byte >= 9 && byte <= 13)) return {CharClass::space, 1};
    return {CharClass::other, 1};
  }
  const Utf8Char c = first_char(text.substr(at));
  return {c.valid ? class_of(c.code) : CharClass::other, static_cast<std::size_t>(c.bytes)};
}

// 's 't 're 've 'm 'll 'd at the front: its length, else 0.
std::size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char a = text[1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (text.size() < 3) return 0;
  const char b = text[2];
  return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

}  // namespace

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

}  // namespace sluice
