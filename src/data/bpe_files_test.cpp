// The files of others: their tokenizers, loaded, give their ids (tests/goldens/tokenizers, made by
// tools/goldens/bpe.py with tiktoken and Hugging Face's tokenizers), and damage is named.
#include <gtest/gtest.h>

#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "core/file.h"
#include "core/test_folder.h"
#include "data/bpe_tokenizer.h"
#include "data/encode.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

const std::string goldens = SLUICE_SOURCE_DIR "/tests/goldens/tokenizers/";
const std::string assets = SLUICE_SOURCE_DIR "/build/assets/gpt2/vocab.bpe";

Ids encode(const Tokenizer& tokenizer, std::string_view text) {
  Ids out;
  tokenizer.encode(text, out);
  return out;
}

struct Loaded {
  std::string name;
  TokenizerPtr tokenizer;
};

const std::vector<Loaded>& all() {
  static const std::vector<Loaded> made = [] {
    std::vector<Loaded> out;
    out.push_back({"gpt2", make_gpt2_tokenizer(read_file(assets))});
    out.push_back({"hf-gpt2", load_tokenizer(goldens + "hf-gpt2.json")});
    out.push_back({"hf-llama3", load_tokenizer(goldens + "hf-llama3.json")});
    out.push_back({"cl100k", load_tokenizer(goldens + "cl100k.tiktoken", "cl100k")});
    return out;
  }();
  return made;
}

std::vector<nlohmann::json> golden_strings() {
  std::vector<nlohmann::json> out;
  const std::string text = read_file(goldens + "strings.jsonl");
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    out.push_back(nlohmann::json::parse(text.substr(at, end - at)));
    at = end + 1;
  }
  return out;
}

TEST(BpeFiles, ids_are_theirs) {
  const std::vector<nlohmann::json> strings = golden_strings();
  ASSERT_GE(strings.size(), 800u);
  int others = 0;
  for (const nlohmann::json& row : strings) {
    const auto text = row["text"].get<std::string>();
    for (const auto& [name, tokenizer] : all()) {
      const Ids ids = encode(*tokenizer, text);
      ASSERT_EQ(ids, row[name].get<Ids>()) << name << ": " << row["text"];
      std::string back;
      tokenizer->decode_append(ids, back);
      ASSERT_EQ(back, text) << name;
    }
    others += row["hf-llama3"] != row["cl100k"];
  }
  // The control: one tokenizer's ids are not another's.
  EXPECT_GT(others, 700);
}

TEST(BpeFiles, written_and_read_again_they_are_the_same) {
  const TestFolder folder;
  const std::vector<nlohmann::json> strings = golden_strings();
  for (const auto& [name, tokenizer] : all()) {
    const std::string path = folder.path(name + ".json");
    write_file_atomic(path, tokenizer->tokenizer_json());
    const TokenizerPtr back = load_tokenizer(path);
    EXPECT_EQ(back->kind(), tokenizer->kind());
    EXPECT_EQ(back->hash(), tokenizer->hash()) << name;
    EXPECT_EQ(back->vocab_size(), tokenizer->vocab_size());
    EXPECT_EQ(back->end_of_text(), tokenizer->end_of_text());
    for (std::size_t i = 0; i < strings.size(); i += 8)
      ASSERT_EQ(encode(*back, strings[i]["text"].get<std::string>()), strings[i][name].get<Ids>());
  }
  EXPECT_NE(all()[1].tokenizer->hash(), all()[2].tokenizer->hash());
}

TEST(BpeFiles, any_bytes_round_trip_and_cuts_are_safe) {
  std::mt19937 random(11);
  const std::vector<nlohmann::json> strings = golden_strings();
  int cuts = 0;
  for (int trial = 0; trial < 600; ++trial) {
    std::string text;
    for (int i = 0; i < 3; ++i)
      text += strings[random() % strings.size()]["text"].get<std::string>();
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(random());
    for (const auto& [name, tokenizer] : all()) {
      const Ids ids = encode(*tokenizer, text);
      std::string back;
      tokenizer->decode_append(ids, back);
      ASSERT_EQ(back, text) << name;
      const std::size_t cut = tokenizer->safe_cut(text, random() % text.size());
      cuts += cut < text.size();
      Ids parts = encode(*tokenizer, std::string_view(text).substr(0, cut));
      tokenizer->encode(std::string_view(text).substr(cut), parts);
      ASSERT_EQ(parts, ids) << name << " cut at " << cut << ": " << text;
    }
  }
  EXPECT_GT(cuts, 600);
}

// Text without a space, too, is worked on in parts: it may be cut at its line ends.
TEST(BpeFiles, cuts_are_found_in_any_script) {
  std::string text;
  while (text.size() < 4000) text += "\u6771\u4eac\u306f\u65e5\u672c\u3002\n\u4f60\u597d\n";
  for (const auto& [name, tokenizer] : all()) {
    for (std::size_t at = 1; at < 3900; at += 97) {
      const std::size_t cut = tokenizer->safe_cut(text, at);
      ASSERT_LT(cut, at + 40) << name;
      Ids parts = encode(*tokenizer, std::string_view(text).substr(0, cut));
      tokenizer->encode(std::string_view(text).substr(cut), parts);
      ASSERT_EQ(parts, encode(*tokenizer, text)) << name << " at " << cut;
    }
  }
}

// Splits a tokenizer.json into the two older files.
void write_lists(const nlohmann::json& file, const std::string& folder) {
  nlohmann::json vocab = file["model"]["vocab"];
  std::string merges = "#version: 0.2\n";
  for (const nlohmann::json& merge : file["model"]["merges"])
    merges += merge[0].get<std::string>() + ' ' + merge[1].get<std::string>() + '\n';
  write_file_atomic(folder + "/vocab.json", vocab.dump());
  write_file_atomic(folder + "/merges.txt", merges);
}

TEST(BpeFiles, vocab_json_and_merges_txt) {
  const TestFolder folder;
  write_lists(nlohmann::json::parse(read_file(goldens + "hf-gpt2.json")), folder.path("."));
  for (const char* path : {".", "vocab.json", "merges.txt"}) {
    const TokenizerPtr lists = load_tokenizer(folder.path(path));
    EXPECT_EQ(lists->hash(), all()[1].tokenizer->hash()) << path;
    EXPECT_EQ(lists->end_of_text(), 0);
  }
  EXPECT_NE(load_tokenizer(folder.path("."), "llama3")->hash(), all()[1].tokenizer->hash());
  // GPT-2's own are known, whichever form they come in.
  write_lists(nlohmann::json::parse(all()[0].tokenizer->tokenizer_json()), folder.path("."));
  EXPECT_EQ(load_tokenizer(folder.path("."))->kind(), "gpt2");
  EXPECT_EQ(load_tokenizer(assets)->kind(), "gpt2");
}

// 1 MiB of what has broken other tokenizers: at most a second each, by any of the splitters.
TEST(BpeFilesSlow, adversarial_megabytes) {
  std::mt19937 random(13);
  constexpr std::size_t size = std::size_t{1} << 20;
  std::vector<std::string> texts;
  for (const std::string_view part :
       {"a",  " ",  "\n",       " \n",     "\r",     "0",    "'",
        "!",  "=",  "\xCC\x81", "\u3000",  "\u6771", "\xFF", "\xF0\x9F",
        "a ", " a", "'s",       "\u00a0x", "ab",     "1a",   "\n\n "}) {
    std::string& text = texts.emplace_back();
    while (text.size() < size) text += part;
  }
  std::string& noise = texts.emplace_back();
  while (noise.size() < size) noise += static_cast<char>(random());
  std::string& letters = texts.emplace_back();
  while (letters.size() < size) letters += static_cast<char>('a' + random() % 26);
  for (const std::string& text : texts) {
    for (const auto& [name, tokenizer] : all()) {
      const std::clock_t before = std::clock();
      const Ids ids = encode(*tokenizer, text);
      EXPECT_LE(std::clock() - before, CLOCKS_PER_SEC) << name << ": " << text.substr(0, 8);
      std::string back;
      tokenizer->decode_append(ids, back);
      ASSERT_EQ(back, text) << name;
    }
  }
}

// The ids of a long text do not depend on how many threads make them.
TEST(BpeFilesSlow, threads_change_nothing) {
  std::mt19937 random(14);
  const std::vector<nlohmann::json> strings = golden_strings();
  std::string text;
  while (text.size() < (std::size_t{9} << 20))
    text += strings[random() % strings.size()]["text"].get<std::string>() + "\n";
  const auto in_parts = [&](const Tokenizer& tokenizer, int threads) {
    Ids out;
    encode_in_parts(tokenizer, text, threads, [&](std::span<const std::int32_t> ids) {
      out.insert(out.end(), ids.begin(), ids.end());
    });
    return out;
  };
  for (const auto& [name, tokenizer] : all()) {
    const Ids whole = encode(*tokenizer, text);
    for (const int threads : {1, 2, 5})
      ASSERT_TRUE(in_parts(*tokenizer, threads) == whole) << name << " " << threads;
  }
  EXPECT_FALSE(in_parts(*all()[0].tokenizer, 2) == encode(*all()[1].tokenizer, text));
}

class DamagedFile : public testing::Test {
 protected:
  // The part that the refusal names, and what it found there.
  std::string refusal(const std::string& text, std::string_view pattern = "") const {
    const std::string path = folder_.path("file");
    write_file_atomic(path, text);
    try {
      load_tokenizer(path, pattern);
    } catch (const Error& e) {
      const std::string& where = e.report().where;
      return where.substr(std::min(where.size(), path.size() + 1)) + ": " + e.report().found;
    }
    return "accepted";
  }
  static nlohmann::json llama3() {
    return nlohmann::json::parse(read_file(goldens + "hf-llama3.json"));
  }
  static nlohmann::json gpt2() {
    return nlohmann::json::parse(read_file(goldens + "hf-gpt2.json"));
  }
  // The refusal of a file that was changed at a JSON pointer.
  std::string changed(nlohmann::json file, const char* pointer, nlohmann::json value) const {
    file[nlohmann::json::json_pointer(pointer)] = std::move(value);
    return refusal(file.dump());
  }
  TestFolder folder_;
};

TEST_F(DamagedFile, unsupported_parts_are_named) {
  EXPECT_EQ(refusal(llama3().dump()), "accepted");
  EXPECT_EQ(changed(llama3(), "/normalizer", {{"type", "NFC"}}), "normalizer: \"NFC\"");
  EXPECT_EQ(changed(llama3(), "/padding", {{"strategy", 1}}), "padding: an object");
  EXPECT_EQ(changed(llama3(), "/version", "2.0"), "version: \"2.0\"");
  EXPECT_EQ(changed(llama3(), "/surprise", 1), "\"surprise\": another");
  EXPECT_EQ(changed(gpt2(), "/pre_tokenizer/add_prefix_space", true),
            "pre_tokenizer.add_prefix_space: true");
  EXPECT_EQ(changed(gpt2(), "/pre_tokenizer/type", "Metaspace"), "pre_tokenizer: \"Metaspace\"");
  EXPECT_EQ(changed(llama3(), "/pre_tokenizer/pretokenizers/0/pattern/Regex", "(a+)+$"),
            "pre_tokenizer.pretokenizers[0].pattern.Regex: \"(a+)+$\"");
  EXPECT_EQ(changed(llama3(), "/pre_tokenizer/pretokenizers/0/behavior", "Removed"),
            "pre_tokenizer.pretokenizers[0].behavior: \"Removed\"");
  EXPECT_EQ(changed(llama3(), "/pre_tokenizer/pretokenizers/1/use_regex", true),
            "pre_tokenizer.pretokenizers[1].use_regex: true");
  EXPECT_EQ(changed(llama3(), "/post_processor", {{"type", "BertProcessing"}}),
            "post_processor: \"BertProcessing\"");
  EXPECT_EQ(changed(llama3(), "/decoder", {{"type", "WordPiece"}}), "decoder: \"WordPiece\"");
  EXPECT_EQ(changed(llama3(), "/model/type", "Unigram"), "model.type: \"Unigram\"");
  EXPECT_EQ(changed(llama3(), "/model/dropout", 0.1), "model.dropout: 0.1");
  EXPECT_EQ(changed(llama3(), "/model/continuing_subword_prefix", "##"),
            "model.continuing_subword_prefix: \"##\"");
  EXPECT_EQ(changed(llama3(), "/model/vocab/zz", 9'000'000), "model.vocab: 9000000 for \"zz\"");
  EXPECT_EQ(changed(llama3(), "/model/vocab/zz", -1), "model.vocab: -1 for \"zz\"");
  EXPECT_EQ(changed(llama3(), "/model/vocab/zz", 5),
            "model.vocab: 5 twice, the second time for \"zz\"");
  EXPECT_EQ(changed(llama3(), "/model/merges/7", "a b c"), "model.merges[7]: \"a b c\"");
  EXPECT_EQ(changed(llama3(), "/model/merges/7", {"a", "zz"}),
            "model.merges[7]: \"zz\", which is none");
  EXPECT_EQ(changed(llama3(), "/added_tokens/0/id", 3), "added_tokens[0]: 3");
  EXPECT_EQ(changed(llama3(), "/added_tokens/0/content", "a"), "added_tokens[0]: 0");
  nlohmann::json file = llama3();
  file["model"]["vocab"].erase("a");
  EXPECT_EQ(refusal(file.dump()), "model.vocab: none for byte 0x61");
}

TEST_F(DamagedFile, ranks) {
  const std::string text = read_file(goldens + "cl100k.tiktoken");
  const auto line = [&](std::string_view from, std::string_view to) {
    std::string out = text;
    const std::size_t at = out.find(from);
    EXPECT_NE(at, out.npos);
    return refusal(out.replace(at, from.size(), to), "cl100k");
  };
  EXPECT_EQ(refusal(text, "cl100k"), "accepted");
  EXPECT_EQ(refusal(text), ": no --pattern");
  EXPECT_EQ(line("Ig== 1\n", "I*== 1\n"), "line 2: I*== 1");
  EXPECT_EQ(line("Ig== 1\n", "Ig= 1\n"), "line 2: Ig= 1");
  EXPECT_EQ(line("Ig== 1\n", "Ig==\n"), "line 2: Ig==");
  EXPECT_EQ(line("Ig== 1\n", "Ig== -1\n"), "line 2: Ig== -1");
  EXPECT_EQ(line("Ig== 1\n", "Ig== 99999999999999999999\n"), "line 2: Ig== 99999999999999999999");
  EXPECT_EQ(line("Ig== 1\n", "\n"), "line 2: an empty line");
  EXPECT_EQ(line("Ig== 1\n", "Ig== 7000000\n"), "line 2: 7000000 for \"\\\"\"");
  EXPECT_EQ(line("Ig== 1\n", "IQ== 1\n"), ": none for byte 0x22");
  EXPECT_EQ(refusal("hello world\n", "gpt2"), "line 1: hello world");
  EXPECT_EQ(refusal("hello\n"), ": none of them");
  EXPECT_EQ(refusal(""), ": none of them");
}

// Whatever the bytes, a file is accepted or refused with Exit::input.
TEST_F(DamagedFile, any_change_is_survived) {
  std::mt19937 random(12);
  const std::vector<std::string> files = {llama3().dump(), read_file(goldens + "cl100k.tiktoken")};
  int refused = 0;
  for (int trial = 0; trial < 60; ++trial) {
    std::string text = files[random() % files.size()];
    const std::size_t at = random() % text.size();
    if (trial % 3 == 0) text.resize(at);
    if (trial % 3 == 1) text[at] = static_cast<char>(random());
    if (trial % 3 == 2) text.erase(at, 1 + random() % 50);
    write_file_atomic(folder_.path("file"), text);
    try {
      load_tokenizer(folder_.path("file"), text[0] == '{' ? "" : "cl100k");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input) << e.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 20);
  // Deep nesting is a question of memory, not of the stack.
  const std::string deep(2'000'000, '[');
  EXPECT_EQ(refusal(deep), ": text that is no JSON");
  EXPECT_EQ(refusal(deep + std::string(2'000'000, ']')), ": a list of 1");
}

// Tokens that are added and not special are cut out of the text first, the longest of them.
TEST(BpeFiles, added_tokens) {
  const TestFolder folder;
  nlohmann::json file = nlohmann::json::parse(read_file(goldens + "hf-gpt2.json"));
  const int next = static_cast<int>(file["model"]["vocab"].size());
  const auto add = [&](const char* text, int id, bool special) {
    file["added_tokens"].push_back({{"id", id},
                                    {"content", text},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", !special},
                                    {"special", special}});
  };
  add("  ", next, false);
  add("    ", next + 1, false);
  add("<|user|>", next + 2, true);
  write_file_atomic(folder.path("t.json"), file.dump());
  const TokenizerPtr with = load_tokenizer(folder.path("t.json"));
  const Tokenizer& without = *all()[1].tokenizer;
  Ids expected = encode(without, "if");
  expected.insert(expected.end(), {next + 1, next});
  without.encode(" x", expected);
  EXPECT_EQ(encode(*with, "if       x"), expected);
  EXPECT_NE(encode(without, "if       x"), expected);
  EXPECT_EQ(encode(*with, "<|user|>"), encode(without, "<|user|>"));
  EXPECT_EQ(with->vocab_size(), next + 3);
  EXPECT_EQ(with->bytes_of(next + 1), "    ");
  EXPECT_EQ(with->bytes_of(next + 2), "");
  write_file_atomic(folder.path("u.json"), with->tokenizer_json());
  EXPECT_EQ(load_tokenizer(folder.path("u.json"))->hash(), with->hash());
}

// Ids and ranks beyond 65,536 stay what they are.
TEST(BpeFiles, large_ids) {
  BpeDefinition definition;
  definition.tokens = bytes_by_symbol();
  const auto id = [&](char c) {
    const auto at =
        std::find(definition.tokens.begin(), definition.tokens.begin() + 256, std::string(1, c));
    return static_cast<std::int32_t>(at - definition.tokens.begin());
  };
  constexpr std::int32_t ab = 70000, abc = 140000, bc = 200001;
  definition.tokens.resize(bc + 1);
  definition.tokens[ab] = "ab", definition.tokens[abc] = "abc", definition.tokens[bc] = "bc";
  definition.pairs = {{id('a'), id('b'), 2'000'000'000, ab},
                      {ab, id('c'), 2'000'000'001, abc},
                      {id('b'), id('c'), 2'000'000'002, bc}};
  definition.end_of_text = bc + 1;
  definition.added = {end_of_text_token(bc + 1)};
  const TokenizerPtr made = make_bpe_tokenizer(definition);
  EXPECT_EQ(encode(*made, "abc bc ab"), (Ids{abc, id(' '), bc, id(' '), ab}));
  // The ids that share their lower 16 bits with those are others.
  EXPECT_EQ(encode(*made, "b c"), (Ids{id('b'), id(' '), id('c')}));
  EXPECT_EQ(made->vocab_size(), bc + 2);
  std::swap(definition.pairs[0].rank, definition.pairs[2].rank);
  EXPECT_EQ(encode(*make_bpe_tokenizer(definition), "abc"), (Ids{id('a'), bc}));
}

}  // namespace
}  // namespace sluice
