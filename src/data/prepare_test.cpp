#include "data/prepare.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

class Prepare : public testing::Test {
 protected:
  std::string text(const std::string& name, const std::string& content) const {
    write_file_atomic(folder_.path(name), content);
    return folder_.path(name);
  }
  PrepareOptions options(std::vector<std::string> inputs, const std::string& tokenizer) const {
    return {.inputs = std::move(inputs),
            .tokenizer = tokenizer,
            .out = folder_.path("out"),
            .assets = SLUICE_SOURCE_DIR "/build/assets"};
  }
  Ids ids(const std::string& name) const {
    const TokenFile file(folder_.path(name));
    file.verify();
    Ids out(static_cast<std::size_t>(file.tokens()));
    file.read(0, out);
    return out;
  }
  // Runs, and checks that nothing but the inputs is there afterwards.
  Report refused(const PrepareOptions& o, Exit code) const {
    const auto before = folder_.names();
    try {
      prepare(o);
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code);
      EXPECT_EQ(folder_.names(), before);
      return e.report();
    }
    return {};
  }
  TestFolder folder_;
};

TEST_F(Prepare, bytes) {
  const PrepareOptions o = options({text("a.txt", "ab"), text("b.txt", "\xFF")}, "bytes");
  const PrepareSummary summary = prepare(o);
  EXPECT_EQ(ids("out"), (Ids{'a', 'b', 256, 255, 256}));
  EXPECT_EQ(summary.train.tokens, 5);
  EXPECT_EQ(summary.train.documents, 2);
  EXPECT_EQ(summary.train.text_bytes, 3);
  EXPECT_FALSE(summary.validation);
  EXPECT_FALSE(std::filesystem::exists(folder_.path("out-val.bin")));
  PrepareOptions bare = o;
  bare.end_of_text = EndOfText::none;
  prepare(bare);
  EXPECT_EQ(ids("out"), (Ids{'a', 'b', 255}));
}

TEST_F(Prepare, chars) {
  prepare(options({text("a.txt", "b\u00e9"), text("b.txt", "\u6771a")}, "chars"));
  EXPECT_EQ(ids("out"), (Ids{1, 2, 4, 3, 0, 4}));
  EXPECT_EQ(TokenFile(folder_.path("out")).tokenizer()->vocab, 5);
  EXPECT_EQ(load_tokenizer(folder_.path("out.tokenizer.json"))->kind(), "chars");
}

TEST_F(Prepare, gpt2_in_pieces) {
  std::string prose;
  while (prose.size() < 3500000) {
    prose +=
        fmt::format("It's chapter {}:  don't\n\n\tpanic, na\u00efve \u6771\u4eac! ", prose.size());
  }
  const PrepareOptions o = options({text("a.txt", prose)}, "gpt2");
  prepare(o);
  Ids expected;
  make_gpt2_tokenizer(read_file(o.assets + "/gpt2/vocab.bpe"))->encode(prose, expected);
  expected.push_back(50256);
  EXPECT_EQ(ids("out"), expected);
}

// The two sides are, together, the input; the cut is at a character.
TEST_F(Prepare, validation) {
  const std::string a = text("a.txt", "abcd"), b = text("b.txt", "e\u6771\u6771fgh");  // 4 + 10
  PrepareOptions o = options({a, b}, "bytes");
  o.end_of_text = EndOfText::none;
  for (int held_out = 1; held_out < 14; ++held_out) {
    o.validation = (held_out + 0.5) / 14;
    const PrepareSummary summary = prepare(o);
    Ids both = ids("out");
    const Ids validation = ids("out-val");
    EXPECT_GE(validation.size(), static_cast<std::size_t>(held_out));
    EXPECT_LE(validation.size(), static_cast<std::size_t>(held_out + 2));
    EXPECT_NE(validation[0] & 0xC0, 0x80);  // not inside a character
    both.insert(both.end(), validation.begin(), validation.end());
    EXPECT_EQ(both.size(), 14u);
    EXPECT_EQ(both[4], 'e');
    EXPECT_EQ(summary.validation->text_bytes, static_cast<std::int64_t>(validation.size()));
    EXPECT_EQ(summary.train.documents + summary.validation->documents,
              validation.size() == 10 ? 2 : 3);
  }
}

TEST_F(Prepare, refuses_bad_inputs_and_writes_nothing) {
  const std::string good = text("good.txt", "some text"), empty = text("empty.txt", "");
  const std::string broken = text("broken.txt", "ab\xFFzz"), tiny = text("tiny.txt", "\u6771");
  EXPECT_EQ(refused(options({good, folder_.path("none.txt")}, "bytes"), Exit::input).where,
            folder_.path("none.txt"));
  EXPECT_EQ(refused(options({good, empty}, "bytes"), Exit::input).where, empty);
  EXPECT_EQ(refused(options({folder_.path()}, "bytes"), Exit::input).where, empty);  // in it
  const Report utf8 = refused(options({good, broken}, "chars"), Exit::input);
  EXPECT_EQ(utf8.where, broken + " byte 2");
  EXPECT_EQ(utf8.found, "byte 0xff");
  PrepareOptions o = options({tiny}, "bytes");
  for (const double share : {0.0001, 0.5, 0.999}) {
    o.validation = share;
    refused(o, Exit::input);
  }
  refused(options({text("a.bin", "x")}, "bytes"), Exit::input);
  o = options({good}, "gpt2");
  o.assets = folder_.path("no-assets");
  EXPECT_EQ(refused(o, Exit::input).where, folder_.path("no-assets/gpt2/vocab.bpe"));
}

TEST_F(Prepare, refuses_bad_options) {
  const std::string good = text("good.txt", "some text");
  refused(options({}, "bytes"), Exit::usage);
  const Report near = refused(options({good}, "byte"), Exit::usage);
  EXPECT_EQ(near.tries, std::vector<std::string>{"--tokenizer bytes"});
  PrepareOptions o = options({good}, "bytes");
  for (const double share : {-0.1, 1.0, 2.0}) {
    o.validation = share;
    refused(o, Exit::usage);
  }
  o.validation = 0;
  o.out = "";
  refused(o, Exit::usage);
  o.out = "/proc/no-such-folder/out";
  refused(o, Exit::disk);
}

}  // namespace
}  // namespace sluice
