#include "data/clean.h"

#include <algorithm>

#include "data/unicode.h"

namespace sluice {
namespace {

// Unicode's white space, and the four separators that Python adds.
bool is_python_space(char32_t code) {
  return class_of(code) == CharClass::space || (code >= 0x1C && code <= 0x1F);
}

std::size_t spaces_at_begin(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Utf8Char c = first_char(text.substr(at));
    if (!c.valid || !is_python_space(c.code)) break;
    at += static_cast<std::size_t>(c.bytes);
  }
  return at;
}

// The size of `text` without the white space at its end.
std::size_t size_without_end(std::string_view text) {
  while (!text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && text.size() - begin < 4 &&
           (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80)
      --begin;
    const Utf8Char c = first_char(text.substr(begin));
    const bool whole = c.valid && begin + static_cast<std::size_t>(c.bytes) == text.size();
    if (!whole || !is_python_space(c.code)) break;
    text = text.substr(0, begin);
  }
  return text.size();
}

}  // namespace

void clean(Clean how, std::string& text) {
  if (how == Clean::none) return;
  std::size_t run = 0, to = 0;
  for (const char c : text) {
    run = c == '\n' ? run + 1 : 0;
    if (run <= 2) text[to++] = c;
  }
  text.resize(to);
  text.resize(size_without_end(text));
  text.erase(0, spaces_at_begin(text));
}

}  // namespace sluice
