#include "data/unicode.h"

namespace sluice {

Utf8Char first_char(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  const Utf8Char invalid = {lead, 1, false};
  if (lead < 0x80) return {lead, 1, true};
  const int bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < static_cast<std::size_t>(bytes)) return invalid;
  char32_t code = lead & (0x7Fu >> bytes);
  for (int i = 1; i < bytes; ++i) {
    const unsigned next = byte(static_cast<std::size_t>(i));
    if ((next & 0xC0u) != 0x80u) return invalid;
    code = code << 6 | (next & 0x3Fu);
  }
  const bool overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (overlong || surrogate || code > 0x10FFFF) return invalid;
  return {code, bytes, true};
}

void append_utf8(char32_t code, std::string& out) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80u | ((code >> shift) & 0x3Fu)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0u | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0u | code >> 12);
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xF0u | code >> 18);
    tail(12), tail(6), tail(0);
  }
}

std::size_t char_boundary(std::string_view text, std::size_t at) {
  if (at >= text.size()) return text.size();
  // A character that covers `at` starts at most three bytes before it.
  for (std::size_t back = 1; back <= 3 && back <= at; ++back) {
    const Utf8Char c = first_char(text.substr(at - back));
    if (c.valid && static_cast<std::size_t>(c.bytes) > back) return at - back;
  }
  return at;
}

Error not_utf8(std::string where, char32_t byte) {
  return Error(Exit::input,
               {.what = "the text is not valid UTF-8",
                .where = std::move(where),
                .expected = "UTF-8, which the chars tokenizer needs",
                .found = fmt::format("byte 0x{:02x}", static_cast<std::uint32_t>(byte)),
                .tries = {"--tokenizer bytes, which takes any file"}});
}

}  // namespace sluice
