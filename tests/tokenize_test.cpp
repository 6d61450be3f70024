// sluice tokenize as a pipe: what goes in comes out again, whole or in parts.
#include <gtest/gtest.h>

#include <random>

#include "core/file.h"
#include "core/test_folder.h"
#include "process.h"

namespace sluice {
namespace {

const std::string tokenizers = SLUICE_SOURCE_DIR "/tests/goldens/tokenizers/";

std::string encode_with(const std::string& kind) {
  return "sluice tokenize --tokenizer " + kind + " ";
}

TEST(Tokenize, any_bytes_round_trip) {
  const TestFolder folder;
  std::mt19937 random(31);
  std::string bytes;
  while (bytes.size() < 300'000) {
    if (random() % 3 == 0) bytes += "\u6771\u4eac na\u00efve 123\n";
    bytes += static_cast<char>(random());
  }
  write_file_atomic(folder.path("text"), bytes);
  for (const std::string& kind :
       {std::string("bytes"), tokenizers + "hf-gpt2.json", tokenizers + "hf-llama3.json",
        tokenizers + "cl100k.tiktoken --pattern cl100k"}) {
    const std::string command = encode_with(kind);
    const Ended ended =
        run_command(command + "text > ids && " + command + "--decode ids > back", folder.path());
    ASSERT_EQ(ended.exit, 0) << ended.err;
    EXPECT_EQ(read_file(folder.path("back")), bytes) << kind;
    EXPECT_NE(read_file(folder.path("ids")), "\n");
  }
  EXPECT_NE(read_file(folder.path("ids")), read_file(folder.path("text")));
}

TEST(Tokenize, standard_input_texts_and_counts) {
  const TestFolder folder;
  const std::string bytes = encode_with("bytes");
  const auto out = [&](const std::string& command) {
    const Ended ended = run_command(command, folder.path());
    EXPECT_EQ(ended.exit, 0) << ended.err;
    return ended.out;
  };
  EXPECT_EQ(out("printf 'Hi\\n' | " + bytes), "72 105 10\n");
  EXPECT_EQ(out("printf 'Hi\\0\\0you' | " + bytes + "--null"), "72 105\n\n121 111 117\n");
  EXPECT_EQ(out("printf '72 105\\n\\n121,111 117\\n' | " + bytes + "--decode --null | od -An -c"),
            out("printf 'Hi\\0\\0you\\0' | od -An -c"));
  EXPECT_EQ(out("printf 'Hi' | " + bytes + "--count"), "2 tokens, 2 bytes\n");
  EXPECT_EQ(out("printf 'Hi' > a; printf 'yo' > b; " + bytes + "a b"), "72 105\n121 111\n");
  EXPECT_NE(out("printf 'Hi' | " + bytes), out("printf 'hi' | " + bytes));
}

// A character comes out when its last byte has come in, and not before.
TEST(Tokenize, decoding_shows_whole_characters) {
  const TestFolder folder;
  const std::string command =
      "(printf '229 145 '; sleep 0.3; printf '168 33 '; sleep 0.3; printf '34') | " +
      encode_with("bytes") + "--decode | (dd bs=64 count=1 2> /dev/null | od -An -tu1; cat > rest)";
  const Ended ended = run_command(command, folder.path());
  EXPECT_EQ(ended.exit, 0) << ended.err;
  EXPECT_EQ(ended.out, " 229 145 168  33\n");
  EXPECT_EQ(read_file(folder.path("rest")), "\"");
}

// A BPE learnt while preparing: any number of threads leaves the same files, and the tokenizer that
// lies beside the shards is taken for more text.
TEST(Tokenize, train_and_use_again) {
  const TestFolder folder;
  const std::string prepare = "sluice prepare text.txt --validation 0.1 --tokenizer ";
  const Ended ended = run_command(
      "text && " + prepare + "train:600 --out a > /dev/null && " + prepare +
          "a.tokenizer.json --out b > /dev/null && cmp a.bin b.bin && cmp a-val.bin b-val.bin && "
          "cmp a.json b.json && cmp a.tokenizer.json b.tokenizer.json && " +
          prepare + "train:600 --pattern llama3 --out c > /dev/null && ! cmp -s a.bin c.bin",
      folder.path());
  EXPECT_EQ(ended.exit, 0) << ended.out << ended.err;
}

}  // namespace
}  // namespace sluice
