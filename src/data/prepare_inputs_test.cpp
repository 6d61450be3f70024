// prepare() over every kind of input: the same documents give the same shards, in whatever form
// they come, with any number of threads, and however often the work was broken off.
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/test_folder.h"
#include "data/prepare.h"
#include "data/test_pack.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;
using Texts = std::vector<std::string>;

class PrepareInputs : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories(folder_of(folder_.path(name)));
    write_text(folder_.path(name), content);
    return folder_.path(name);
  }
  PrepareOptions options(Texts inputs, const std::string& tokenizer = "bytes") const {
    PrepareOptions out;
    out.inputs = std::move(inputs);
    out.tokenizer = tokenizer;
    out.out = folder_.path("out");
    out.assets = SLUICE_SOURCE_DIR "/build/assets";
    out.threads = 3;
    return out;
  }
  static Ids ids(const std::string& prefix) {
    const TokenFile file(prefix);
    file.verify();
    Ids out(static_cast<std::size_t>(file.tokens()));
    file.read(0, out);
    return out;
  }
  Ids made(const PrepareOptions& o) const {
    prepare(o);
    return ids(o.out);
  }
  static Ids expected(const Texts& documents) {
    Ids out;
    for (const std::string& text : documents) {
      for (const char c : text) out.push_back(static_cast<unsigned char>(c));
      out.push_back(256);
    }
    return out;
  }
  Report refused(const PrepareOptions& o, Exit code = Exit::input) const {
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

using PrepareInputsSlow = PrepareInputs;

TEST_F(PrepareInputs, every_kind_gives_the_same) {
  const Texts documents = some_documents(300);
  TarFiles files;
  for (std::size_t i = 0; i < documents.size(); ++i)
    files.emplace_back(fmt::format("{:04}.txt", i), documents[i]);
  const Ids right = expected(documents);
  const std::vector<std::pair<std::string, Packing>> endings = {
      {"", Packing::none}, {".gz", Packing::gzip}, {".zst", Packing::zstd}, {".xz", Packing::xz}};
  for (const auto& [ending, packing] : endings) {
    EXPECT_EQ(made(options({file("a.jsonl" + ending, packed(json_lines(documents), packing))})),
              right);
    EXPECT_EQ(made(options({file("a.tar" + ending, packed(tar_of(files), packing))})), right);
    EXPECT_EQ(made(options({file("a.txt" + ending, packed(documents[0] + "x", packing))})),
              expected({documents[0] + "x"}));
  }
  const auto first = documents.begin(), middle = first + 120;
  const std::string tar_in_tar =
      tar_of({{"owt/s00_data.xz", xz_of(tar_of({files.begin(), files.begin() + 120}))},
              {"owt/ignored.md", "x"},
              {"owt/s01_data.xz", xz_of(tar_of({files.begin() + 120, files.end()}))}});
  EXPECT_EQ(made(options({file("subset.tar", tar_in_tar)})), right);
  file("folder/b/2.jsonl.gz", gzip_of(json_lines({middle, documents.end()})));
  file("folder/a/1.jsonl", json_lines({first, middle}));
  file("folder/notes.md", "not this");
  EXPECT_EQ(made(options({folder_.path("folder")})), right);
  EXPECT_NE(made(options({file("b.jsonl", json_lines({first, middle}))})), right);
}

TEST_F(PrepareInputs, the_last_line_needs_no_end_and_blank_ones_are_none) {
  const std::string a = file("a.jsonl", "\n{\"text\":\"a\"}\r\n \t\n{\"body\":1,\"text\":\"b\"}");
  EXPECT_EQ(made(options({a})), expected({"a", "b"}));
  PrepareOptions o = options({file("b.ndjson", "{\"body\":\"c\",\"text\":\"d\"}\n")});
  o.field = "body";
  EXPECT_EQ(made(o), expected({"c"}));
  EXPECT_EQ(made(options({file("c.jsonl", "{\"text\":\"\"}\n")})), Ids{256});
}

// Large enough for many pieces, with documents of every size: one longer than a piece.
TEST_F(PrepareInputsSlow, threads_change_nothing) {
  Texts documents = some_documents(1500);
  std::string longer;
  while (longer.size() < 3'000'000) longer += documents[longer.size() % 1000];
  documents[700] = longer;
  const std::string path = file("a.jsonl.zst", zstd_of(json_lines(documents)));
  const std::string text = file("b.txt", longer);
  std::string first;
  for (const int threads : {1, 2, 5}) {
    PrepareOptions o = options({path, text, path}, "gpt2");
    o.threads = threads;
    o.out = folder_.path(fmt::format("out{}", threads));
    prepare(o);
    const std::string all = read_text(o.out + ".bin") + read_text(o.out + ".idx") +
                            read_text(o.out + ".json") + read_text(o.out + ".tokenizer.json");
    if (first.empty()) first = all;
    EXPECT_TRUE(all == first) << threads;
  }
  Ids right;
  const TokenizerPtr gpt2 =
      make_gpt2_tokenizer(read_file(SLUICE_SOURCE_DIR "/build/assets/gpt2/vocab.bpe"));
  for (int round = 0; round < 2; ++round) {
    for (const std::string& document : documents) {
      gpt2->encode(document, right);
      right.push_back(50256);
    }
    if (round == 0) gpt2->encode(longer, right), right.push_back(50256);
  }
  EXPECT_TRUE(ids(folder_.path("out1")) == right);
}

TEST_F(PrepareInputs, tokenizers_made_of_packed_text) {
  const Texts documents = some_documents(400);
  const std::string lines = file("a.jsonl.gz", gzip_of(json_lines(documents)));
  std::string together;
  for (const std::string& text : documents) together += text;
  prepare(options({lines}, "chars"));
  PrepareOptions plain = options({file("a.txt", together)}, "chars");
  plain.out = folder_.path("plain");
  prepare(plain);
  EXPECT_EQ(read_text(folder_.path("out.tokenizer.json")),
            read_text(folder_.path("plain.tokenizer.json")));
  prepare(options({lines}, "train:400"));
  Texts names;
  for (std::size_t i = 0; i < documents.size(); ++i)
    if (!documents[i].empty())
      names.push_back(file(fmt::format("texts/{:04}.txt", i), documents[i]));
  plain = options(names, "train:400");
  plain.out = folder_.path("plain");
  prepare(plain);
  EXPECT_EQ(read_text(folder_.path("out.tokenizer.json")),
            read_text(folder_.path("plain.tokenizer.json")));
}

TEST_F(PrepareInputs, bad_lines_fail_or_are_counted) {
  const std::string path =
      file("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\n{\"txt\":\"b\"}\n{\"text\":\"c\"}\n");
  PrepareOptions o = options({path});
  const Report report = refused(o);
  EXPECT_EQ(report.where, path + " line 2");
  EXPECT_EQ(report.expected, "a JSON object with a string in \"text\"");
  o.on_bad_line = OnBadLine::skip;
  const PrepareSummary summary = prepare(o);
  EXPECT_EQ(ids(o.out), expected({"a", "c"}));
  EXPECT_EQ(summary.bad.count, 2);
  EXPECT_EQ(summary.bad.first, path + " line 2: no JSON from its byte 9 on");
  o.inputs = {file("b.jsonl", "{}\n"), file("c.jsonl", "")};
  EXPECT_EQ(refused(o).what, "there is no document in the input");
}

TEST_F(PrepareInputsSlow, the_first_fault_in_the_inputs_order_is_told) {
  const Texts documents = some_documents(3000);
  const std::string lines = json_lines(documents);
  const std::string a = file("a.jsonl", lines + "x\n" + lines + "y\n");
  const std::string b = file("b.jsonl", "z\n");
  file("out.partial/journal", "");  // what was done by then is kept
  for (int round = 0; round < 3; ++round)
    EXPECT_EQ(refused(options({a, b})).where, a + " line 3001");
  PrepareOptions o = options({a, b});
  o.on_bad_line = OnBadLine::skip;
  const PrepareSummary summary = prepare(o);
  EXPECT_GT(summary.begun_at, 1'000'000);
  EXPECT_EQ(summary.bad.count, 3);
  EXPECT_FALSE(summary.begun_anew);
  Texts twice = documents;
  twice.insert(twice.end(), documents.begin(), documents.end());
  EXPECT_TRUE(ids(o.out) == expected(twice));
}

TEST_F(PrepareInputs, kinds_that_are_not_read) {
  for (const char* name : {"a.parquet", "a.bin", "a.txt.bz2", "a.zip"})
    EXPECT_EQ(refused(options({file(name, "x")})).what, "this kind of file cannot be prepared");
  std::filesystem::create_directory(folder_.path("empty"));
  EXPECT_EQ(refused(options({folder_.path("empty")})).what, "there is no text in the folder");
  const std::string nested = gzip_of(tar_of({{"a.xz", "x"}}));
  EXPECT_EQ(refused(options({file("a.tar.gz", nested)})).what,
            "a packed archive holds packed files");
  std::string cut = gzip_of(json_lines(some_documents(50)));
  cut.resize(cut.size() / 2);
  EXPECT_EQ(refused(options({file("a.jsonl.gz", cut)})).what, "the packed file is truncated");
  const std::string archive = tar_of({{"a.txt", std::string(2000, 'x')}});
  EXPECT_EQ(refused(options({file("b.tar.gz", gzip_of(archive.substr(0, 1500)))})).what,
            "the archive is truncated");
}

}  // namespace
}  // namespace sluice
