#include "data/unicode.h"

#include <gtest/gtest.h>

#include <array>

namespace sluice {
namespace {

TEST(Unicode, classes) {
  EXPECT_EQ(class_of('a'), CharClass::letter);
  EXPECT_EQ(class_of('7'), CharClass::number);
  EXPECT_EQ(class_of('_'), CharClass::other);
  EXPECT_EQ(class_of(0x6771), CharClass::letter);  // 東
  EXPECT_EQ(class_of(0xBD), CharClass::number);    // ½ is \p{No}
  EXPECT_EQ(class_of(0x2167), CharClass::number);  // Ⅷ is \p{Nl}
  EXPECT_EQ(class_of(0x301), CharClass::other);    // a combining mark
  EXPECT_EQ(class_of(0x1F600), CharClass::other);  // 😀
  EXPECT_EQ(class_of(0x10FFFF), CharClass::other);
}

// The 25 White_Space code points, and neighbours that other libraries count as space.
TEST(Unicode, white_space) {
  int spaces = 0;
  for (char32_t code = 0; code <= 0x10FFFF; ++code) spaces += class_of(code) == CharClass::space;
  EXPECT_EQ(spaces, 25);
  for (const char32_t code : {0x9, 0xD, 0x20, 0x85, 0xA0, 0x1680, 0x2000, 0x200A, 0x3000}) {
    EXPECT_EQ(class_of(code), CharClass::space) << static_cast<unsigned>(code);
  }
  for (const char32_t code : {0x8, 0xE, 0x1C, 0x180E, 0x200B, 0xFEFF}) {
    EXPECT_NE(class_of(code), CharClass::space) << static_cast<unsigned>(code);
  }
}

// Counts of Unicode 16.0.0 (UnicodeData.txt): another version changes them.
TEST(Unicode, version) {
  int letters = 0, numbers = 0;
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    letters += class_of(code) == CharClass::letter;
    numbers += class_of(code) == CharClass::number;
  }
  EXPECT_EQ(letters, 141028);
  EXPECT_EQ(numbers, 1911);
}

TEST(Unicode, utf8_round_trip) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    std::string text;
    append_utf8(code, text);
    const Utf8Char c = first_char(text);
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    ASSERT_EQ(c.valid, !surrogate) << static_cast<unsigned>(code);
    if (surrogate) continue;
    ASSERT_TRUE(c.code == code);
    ASSERT_EQ(static_cast<std::size_t>(c.bytes), text.size());
  }
}

TEST(Unicode, refuses_what_is_no_utf8) {
  for (const std::string_view text :
       {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x80\xAF", "\xE0\x9F\xBF", "\xED\xA0\x80",
        "\xF0\x80\x80\xAF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE6\x9D",
        "\xC3(", "\xF0\x9F\x98"}) {
    const Utf8Char c = first_char(text);
    EXPECT_FALSE(c.valid);
    EXPECT_EQ(c.bytes, 1);
    EXPECT_TRUE(c.code == static_cast<unsigned char>(text[0]));
  }
}

TEST(Unicode, boundaries) {
  const std::string text = "a\xC3\xA9\xE6\x9D\xB1\xF0\x9F\x98\x80z";  // a é 東 😀 z
  const std::array<std::size_t, 12> expected = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
  for (std::size_t at = 0; at < expected.size(); ++at) {
    EXPECT_EQ(char_boundary(text, at), expected[at]) << at;
  }
  EXPECT_EQ(char_boundary("\x80\x80\x80\x80", 2), 2u);
  EXPECT_EQ(char_boundary("ab", 9), 2u);
}

}  // namespace
}  // namespace sluice
