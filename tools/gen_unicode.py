#!/usr/bin/env python3
"""Writes src/data/gen/unicode.cpp: which code points are letters, numbers and white space.

The tables are those of Unicode 16.0.0, which tiktoken 0.14 and tokenizers 0.23 agree on for every
code point (tools/goldens/bpe.py looks). Another version is refused: a changed table would
change the ids of texts already tokenized. Needs PyPI's unicodedata2 of that version.
Usage: build/venv/bin/python tools/gen_unicode.py > src/data/gen/unicode.cpp
"""
import sys

import unicodedata2

VERSION = "16.0.0"
# PropList.txt's White_Space (25 code points), which unicodedata does not carry.
WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
               0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
BLOCK = 128      # code points, 2 bits each: four 64-bit words
COVERED = 0x40000  # what lies above is neither letter nor number nor space


def class_of(code):  # the values of CharClass
    if code in WHITE_SPACE:
        return 3
    return {"L": 1, "N": 2}.get(unicodedata2.category(chr(code))[0], 0)


def words_of(first):
    return tuple(sum(class_of(word + i) << 2 * i for i in range(32))
                 for word in range(first, first + BLOCK, 32))


def rows(items, per_row):
    items = list(items)
    for i in range(0, len(items), per_row):
        print("    " + " ".join(item + "," for item in items[i:i + per_row]))


def main():
    if unicodedata2.unidata_version != VERSION:
        sys.exit(f"unicodedata2 carries Unicode {unicodedata2.unidata_version}, not {VERSION}")
    assert len(WHITE_SPACE) == 25
    assert not any(class_of(code) for code in range(COVERED, 0x110000))
    blocks = {}
    index = [blocks.setdefault(words_of(first), len(blocks)) for first in range(0, COVERED, BLOCK)]
    assert len(blocks) <= 256
    print("// Made by tools/gen_unicode.py from Unicode " + VERSION + ". Do not edit.")
    print('#include "data/unicode.h"\n')
    print("namespace sluice {\n\n// clang-format off")
    print(f"const std::array<std::uint8_t, {len(index)}> char_blocks = {{")
    rows((str(block) for block in index), 24)
    print(f"}};\n\nconstexpr std::array<std::uint64_t, {4 * len(blocks)}> char_class_words_table = {{")
    rows((f"0x{word:X}" for block in blocks for word in block), 4)
    print("};\n// clang-format on\n")
    print("const std::span<const std::uint64_t> char_class_words = char_class_words_table;\n")
    print("}  // namespace sluice")


main()
