#!/usr/bin/env python3
"""Writes src/data/gen/unicode.cpp: which code points are letters, numbers and white space.

The tables are those of Unicode 14.0.0, the version that Debian 12's Python 3.11 carries; another
version is refused, because a changed table would change the ids of texts already tokenized.
Usage: tools/gen_unicode.py > src/data/gen/unicode.cpp
"""
import sys
import unicodedata

VERSION = "14.0.0"
# PropList.txt's White_Space (25 code points), which unicodedata does not carry.
WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
               0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def class_of(code):
    if code in WHITE_SPACE:
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(chr(code))[0])


def ranges():
    first = 0
    for code in range(1, 0x110001):
        kind = class_of(first)
        if code == 0x110000 or class_of(code) != kind:
            if kind:
                yield first, code - 1, kind
            first = code


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"this Python carries Unicode {unicodedata.unidata_version}, not {VERSION}")
    assert len(WHITE_SPACE) == 25
    entries = [f"{{0x{a:04X}, 0x{b:04X}, C::{kind}}}," for a, b, kind in ranges()]
    print("// Made by tools/gen_unicode.py from Unicode " + VERSION + ". Do not edit.")
    print('#include "data/unicode.h"\n')
    print("namespace sluice {\nnamespace {\nusing C = CharClass;\n")
    print("// clang-format off")
    print(f"constexpr std::array<CharRange, {len(entries)}> char_ranges_table = {{{{")
    for i in range(0, len(entries), 4):
        print("    " + " ".join(entries[i:i + 4]))
    print("}};\n// clang-format on\n\n}  // namespace\n")
    print("const std::span<const CharRange> char_ranges = char_ranges_table;\n")
    print("}  // namespace sluice")


main()
