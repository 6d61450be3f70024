#include "core/hash.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice {
namespace {

std::string sha(const std::string& text) { return sha256_hex(text.data(), text.size()); }
std::string xxh(const std::string& text) { return hash128_hex(text.data(), text.size()); }

// FIPS 180-4 examples, and the padding edges (55, 56, 64 bytes; values from Python's hashlib).
TEST(Hash, sha256_known_answers) {
  EXPECT_EQ(sha(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha(std::string(55, 'a')),
            "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  EXPECT_EQ(sha(std::string(56, 'a')),
            "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
  EXPECT_EQ(sha(std::string(64, 'a')),
            "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
  EXPECT_EQ(sha(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_NE(sha("abc"), sha("abd"));
}

// The empty input's XXH3 values are published in xxHash's own test vectors.
TEST(Hash, xxh3_known_answers) {
  EXPECT_EQ(hex64(hash64("")), "2d06800538d394c2");
  EXPECT_EQ(xxh(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_NE(hash64("a"), hash64("b"));
  EXPECT_NE(hash64("a", 0), hash64("a", 1));
}

TEST(Hash, pieces_equal_the_whole) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * 31);
  for (const std::size_t cut : {0, 1, 63, 240, 241, 1024, 4999}) {
    Hasher128 hasher;
    hasher.add(text.data(), cut);
    hasher.add(text.data() + cut, text.size() - cut);
    EXPECT_EQ(hasher.hex(), xxh(text)) << cut;
  }
  std::string flipped = text;
  flipped[2500] ^= 1;
  EXPECT_NE(xxh(flipped), xxh(text));
}

}  // namespace
}  // namespace sluice
