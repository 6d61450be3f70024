// prepare() broken off by a full disk: what was committed stays, and the next call makes the same
// shards without reading it again.
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/test_folder.h"
#include "data/prepare.h"
#include "data/test_pack.h"

namespace sluice {
namespace {

class PrepareResumeSlow : public testing::Test {
 protected:
  PrepareOptions options(const std::string& input, const std::string& out) const {
    PrepareOptions o;
    o.inputs = {folder_.path(input)};
    o.tokenizer = "bytes";
    o.out = folder_.path(out);
    o.threads = 2;
    return o;
  }
  // All four files of a set, the sidecar's name for itself left out.
  std::string set(const std::string& prefix) const {
    std::string out;
    for (const char* end : {".bin", ".idx", ".json", ".tokenizer.json"})
      out += read_text(folder_.path(prefix) + end);
    return out;
  }
  // Calls until one succeeds, each with a disk that fills up after `writes`. Returns their number.
  int until_done(PrepareOptions o, int writes) const {
    for (int calls = 1; calls < 100; ++calls) {
      Faults faults = Faults::parse(fmt::format("save.write:enospc@{}+", writes));
      o.faults = &faults;
      try {
        const PrepareSummary summary = prepare(o);
        EXPECT_EQ(summary.begun_at > 0, calls > 1);
        EXPECT_FALSE(summary.begun_anew);
        return calls;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), Exit::disk);
        EXPECT_TRUE(std::filesystem::exists(o.out + ".partial/journal"));
      }
    }
    return 0;
  }
  TestFolder folder_;
};

std::string many_lines(unsigned seed) {
  std::string out;
  for (; out.size() < 5'000'000; ++seed) out += json_lines(some_documents(400, seed));
  return out;
}

TEST_F(PrepareResumeSlow, goes_on_in_every_kind_of_input) {
  const std::string lines = many_lines(1);
  std::string frames;
  for (std::size_t at = 0; at < lines.size(); at += 400'000)
    frames += zstd_of(lines.substr(at, 400'000));
  // Stored, not deflated: blocks lie close together, and the packed file is as large as the text.
  write_text(folder_.path("a.jsonl"), lines);
  write_text(folder_.path("a.txt"), lines);
  write_text(folder_.path("a.jsonl.gz"), gzip_of(lines, 0));
  write_text(folder_.path("a.jsonl.zst"), frames);
  for (const std::string input : {"a.jsonl", "a.txt", "a.jsonl.gz", "a.jsonl.zst"}) {
    prepare(options(input, "whole"));
    // Ids and documents of a piece are a write each; a commit needs a megabyte of the file.
    const bool packs = input == "a.jsonl.zst";
    EXPECT_GT(until_done(options(input, "parts"), packs              ? 15
                                                  : input == "a.txt" ? 3
                                                                     : 7),
              packs ? 0 : 1)
        << input;
    EXPECT_TRUE(set("parts") == set("whole")) << input;
    EXPECT_FALSE(std::filesystem::exists(folder_.path("parts.partial")));
  }
}

TEST_F(PrepareResumeSlow, sides_and_order_are_those_of_one_call) {
  write_text(folder_.path("a.jsonl"), many_lines(3));
  PrepareOptions whole = options("a.jsonl", "whole"), parts = options("a.jsonl", "parts");
  whole.validation = parts.validation = 0.01;
  for (const bool shuffled : {false, true}) {
    if (shuffled) whole.shuffle = parts.shuffle = 2357;
    prepare(whole);
    EXPECT_GT(until_done(parts, 7), 1);
    EXPECT_TRUE(set("parts") == set("whole"));
    EXPECT_TRUE(set("parts-val") == set("whole-val"));
    EXPECT_FALSE(set("whole-val") == set("whole"));
  }
}

// What is left of other work is not gone on with, nor what does not hold what its journal says.
TEST_F(PrepareResumeSlow, begins_anew_when_it_must) {
  write_text(folder_.path("a.jsonl"), many_lines(5));
  PrepareOptions o = options("a.jsonl", "out");
  const auto broken_off = [&] {
    Faults faults = Faults::parse("save.write:enospc@7+");
    PrepareOptions first = o;
    first.faults = &faults;
    EXPECT_THROW(prepare(first), Error);
  };
  broken_off();
  PrepareOptions other = o;
  other.field = "text2";
  write_text(folder_.path("b.jsonl"), "{\"text2\":\"b\"}\n");
  other.inputs = {folder_.path("b.jsonl")};
  PrepareSummary summary = prepare(other);
  EXPECT_TRUE(summary.begun_anew);
  EXPECT_EQ(summary.begun_at, 0);
  broken_off();
  std::string tokens = read_text(folder_.path("out.partial/tokens"));
  tokens[100] = static_cast<char>(tokens[100] ^ 1);
  write_text(folder_.path("out.partial/tokens"), tokens);
  summary = prepare(o);
  EXPECT_TRUE(summary.begun_anew);
  broken_off();
  std::filesystem::resize_file(folder_.path("out.partial/documents"), 16);
  EXPECT_TRUE(prepare(o).begun_anew);
  broken_off();
  write_text(folder_.path("out.partial/journal"), "{\"version\":1");
  EXPECT_TRUE(prepare(o).begun_anew);
  broken_off();
  EXPECT_GT(prepare(o).begun_at, 0);
}

}  // namespace
}  // namespace sluice
