#include "data/tokenizer.h"

#include <gtest/gtest.h>
#include <time.h>

#include <map>
#include <random>

#include "core/error.h"
#include "core/file.h"
#include "core/test_folder.h"
#include "data/splitter.h"
#include "data/tokenizer_json.h"
#include "data/unicode.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

const std::string vocab_path = SLUICE_SOURCE_DIR "/build/assets/gpt2/vocab.bpe";

const Tokenizer& gpt2() {
  static const TokenizerPtr made = make_gpt2_tokenizer(read_file(vocab_path));
  return *made;
}

Ids encode(const Tokenizer& tokenizer, std::string_view text) {
  Ids out;
  tokenizer.encode(text, out);
  return out;
}

std::string decode(const Tokenizer& tokenizer, const Ids& ids) {
  std::string out;
  tokenizer.decode_append(ids, out);
  return out;
}

std::string random_text(std::mt19937& random, std::size_t bytes) {
  // Bytes, words, spaces, marks and letters beyond ASCII, so that every branch of the splitter
  // runs.
  static const std::vector<std::string> parts = {" ",
                                                 "  ",
                                                 "\n",
                                                 "\t",
                                                 "\r\n",
                                                 "\xC2\xA0",
                                                 "\xE3\x80\x80",
                                                 "the",
                                                 "ing",
                                                 "'s",
                                                 "'ll",
                                                 "'",
                                                 "x",
                                                 "A",
                                                 "42",
                                                 "\xC2\xBD",
                                                 "!",
                                                 "...",
                                                 "\xE6\x9D\xB1",
                                                 "\xCC\x81",
                                                 "\xF0\x9F\x98\x80",
                                                 "\xC3\xA9"};
  std::string text;
  while (text.size() < bytes) {
    const std::uint32_t pick = random();
    if (pick % 8 == 0) {
      text += static_cast<char>(pick >> 8);
    } else {
      text += parts[(pick >> 8) % parts.size()];
    }
  }
  return text;
}

// Computed with npm gpt-3-encoder 1.1.4.
TEST(Gpt2Tokenizer, golden_ids) {
  const std::vector<std::pair<std::string, Ids>> goldens = {
      {"Hello world", {15496, 995}},
      {"Hello, world! 123 4567", {15496, 11, 995, 0, 17031, 4153, 3134}},
      {"  leading and   multiple   spaces\n\n\tTab",
       {220, 3756, 290, 220, 220, 3294, 220, 220, 9029, 628, 197, 33349}},
      {"don't can't I'll we've", {9099, 470, 460, 470, 314, 1183, 356, 1053}},
      {"'S THE DON'T", {6, 50, 3336, 23917, 6, 51}},
      {"a\u00a0b", {64, 1849, 65}},
      {"na\u00efve caf\u00e9 \u2013 \u6771\u4eac \U0001F600",
       {2616, 38776, 40304, 784, 10545, 251, 109, 12859, 105, 30325, 222}},
      {"<|endoftext|>", {27, 91, 437, 1659, 5239, 91, 29}},
  };
  for (const auto& [text, ids] : goldens) {
    EXPECT_EQ(encode(gpt2(), text), ids) << text;
    EXPECT_EQ(decode(gpt2(), ids), text);
  }
  EXPECT_NE(encode(gpt2(), "Hello  world"), goldens[0].second);
  EXPECT_EQ(gpt2().vocab_size(), 50257);
  EXPECT_EQ(gpt2().end_of_text(), 50256);
  EXPECT_EQ(gpt2().byte_length(50256), 0);
  EXPECT_EQ(gpt2().byte_length(995), 6);
}

TEST(Gpt2Tokenizer, splitter) {
  const auto pieces = [](std::string_view text) {
    std::vector<std::string> out;
    while (!text.empty()) {
      const std::size_t n = first_piece(Splitter::gpt2, text);
      out.emplace_back(text.substr(0, n));
      text.remove_prefix(n);
    }
    return out;
  };
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(pieces("a \n b"), (Pieces{"a", " \n", " b"}));
  EXPECT_EQ(pieces("a \nb"), (Pieces{"a", " ", "\n", "b"}));
  EXPECT_EQ(pieces("a \n"), (Pieces{"a", " \n"}));
  EXPECT_EQ(pieces("it's 's '' !!'s"), (Pieces{"it", "'s", " '", "s", " ''", " !!'", "s"}));
  EXPECT_EQ(pieces("we'll'l"), (Pieces{"we", "'ll", "'", "l"}));
  EXPECT_EQ(pieces("a1_b2"), (Pieces{"a", "1", "_", "b", "2"}));
  EXPECT_EQ(pieces("x\xFF\xC3y \xFF"), (Pieces{"x", "\xFF\xC3", "y", " \xFF"}));
  EXPECT_EQ(pieces(" "), (Pieces{" "}));
  EXPECT_EQ(pieces("e\u0301"), (Pieces{"e", "\u0301"}));
  EXPECT_NE(pieces("a  b"), (Pieces{"a", "  ", "b"}));
}

// The published algorithm, by the book: the best pair's every occurrence, then the next pair.
class SlowBpe {
 public:
  SlowBpe() {
    const std::string text = read_file(vocab_path);
    std::size_t at = text.find('\n') + 1;
    for (int rank = 0; at < text.size(); ++rank) {
      const std::size_t space = text.find(' ', at), end = text.find('\n', at);
      ranks_[{text.substr(at, space - at), text.substr(space + 1, end - space - 1)}] = rank;
      at = end + 1;
    }
  }
  std::vector<std::string> split(std::string_view piece) const {
    std::vector<std::string> word;
    for (const char c : piece) {
      append_utf8(byte_symbol(static_cast<unsigned char>(c)), word.emplace_back());
    }
    for (;;) {
      auto best = ranks_.end();
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        const auto found = ranks_.find({word[i], word[i + 1]});
        if (found == ranks_.end()) continue;
        if (best == ranks_.end() || found->second < best->second) best = found;
      }
      if (best == ranks_.end()) return word;
      std::vector<std::string> next;
      for (std::size_t i = 0; i < word.size(); ++i) {
        const bool merge = i + 1 < word.size() && word[i] == best->first.first &&
                           word[i + 1] == best->first.second;
        next.push_back(merge ? word[i] + word[i + 1] : word[i]);
        i += merge;
      }
      word = std::move(next);
    }
  }

 private:
  std::map<std::pair<std::string, std::string>, int> ranks_;
};

std::vector<std::string> symbols(const Ids& ids) {
  std::vector<std::string> out;
  for (const std::int32_t id : ids) {
    std::string& symbol = out.emplace_back();
    for (const char c : gpt2().bytes_of(id)) {
      append_utf8(byte_symbol(static_cast<unsigned char>(c)), symbol);
    }
  }
  return out;
}

TEST(Gpt2Tokenizer, equals_the_slow_algorithm) {
  const SlowBpe slow;
  std::mt19937 random(1);
  // One piece each: letters only. Lengths on both sides of the switch to the heap.
  for (int trial = 0; trial < 400; ++trial) {
    const std::size_t length = 1 + random() % (trial % 4 == 0 ? 300 : 80);
    const unsigned letters = 1 + random() % 26;
    std::string word;
    for (std::size_t i = 0; i < length; ++i) {
      word += static_cast<char>("etaoinshrdlcumwfgypbvkjxqz"[random() % letters]);
    }
    ASSERT_EQ(symbols(encode(gpt2(), word)), slow.split(word)) << word;
  }
  for (int trial = 0; trial < 100; ++trial) {
    const std::string spaces(1 + random() % 200, ' ');
    ASSERT_EQ(symbols(encode(gpt2(), spaces)), slow.split(spaces));
  }
  EXPECT_NE(symbols(encode(gpt2(), "the")), slow.split("eht"));
}

TEST(Gpt2Tokenizer, round_trips_any_bytes) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 300; ++trial) {
    const std::string text = random_text(random, random() % 5000);
    const Ids ids = encode(gpt2(), text);
    ASSERT_EQ(decode(gpt2(), ids), text);
    for (const std::int32_t id : ids) ASSERT_TRUE(id >= 0 && id < 50256);
  }
}

// The cache is only used on longer texts: the same pieces, one at a time, give the same ids.
TEST(Gpt2Tokenizer, the_cache_changes_nothing) {
  std::mt19937 random(3);
  const std::string text = random_text(random, 200000);
  Ids pieces;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t n = first_piece(Splitter::gpt2, rest);
    gpt2().encode(rest.substr(0, n), pieces);
    rest.remove_prefix(n);
  }
  EXPECT_EQ(encode(gpt2(), text), pieces);
}

TEST(Tokenizer, safe_cuts_are_safe) {
  std::mt19937 random(4);
  const TokenizerPtr chars = make_chars_tokenizer({'a', ' ', '\n', 0xE9, 0x6771, 0x1F600});
  const TokenizerPtr bytes = make_bytes_tokenizer();
  int cuts = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    const std::string text = random_text(random, 1 + random() % 60);
    std::string in_alphabet;
    for (int i = 0; i < 20; ++i) in_alphabet += decode(*chars, {static_cast<int>(random() % 6)});
    const std::size_t at = random() % (text.size() + 2);
    for (const Tokenizer* t : {&gpt2(), bytes.get(), chars.get()}) {
      const std::string& source = t == chars.get() ? in_alphabet : text;
      const std::size_t cut = t->safe_cut(source, at);
      ASSERT_TRUE(cut <= source.size() && (cut >= at || at > source.size()));
      cuts += cut < source.size();
      Ids parts = encode(*t, std::string_view(source).substr(0, cut));
      t->encode(std::string_view(source).substr(cut), parts);
      ASSERT_EQ(parts, encode(*t, source)) << source << " cut at " << cut;
    }
  }
  EXPECT_GT(cuts, 1000);
  Ids unsafe = encode(gpt2(), "wor");
  gpt2().encode("ld", unsafe);
  EXPECT_NE(unsafe, encode(gpt2(), "world"));
}

TEST(Gpt2Tokenizer, refuses_other_merges) {
  std::string text = read_file(vocab_path);
  text[text.size() / 2] ^= 1;
  EXPECT_THROW(make_gpt2_tokenizer(text), Error);
  EXPECT_THROW(make_gpt2_tokenizer(std::string()), Error);
}

TEST(BytesTokenizer, is_the_identity) {
  const TokenizerPtr bytes = make_bytes_tokenizer();
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  const Ids ids = encode(*bytes, all);
  for (int b = 0; b < 256; ++b) EXPECT_EQ(ids[static_cast<std::size_t>(b)], b);
  EXPECT_EQ(decode(*bytes, ids), all);
  EXPECT_EQ(bytes->vocab_size(), 257);
  EXPECT_EQ(bytes->end_of_text(), 256);
  EXPECT_EQ(decode(*bytes, {256, 257, -1}), "");
}

TEST(CharsTokenizer, code_points_ascending) {
  const TokenizerPtr chars = make_chars_tokenizer({'b', 0x6771, 'a', 'b', 0xE9});
  EXPECT_EQ(chars->vocab_size(), 5);
  EXPECT_EQ(chars->end_of_text(), 4);
  EXPECT_EQ(encode(*chars, "ab\u00e9\u6771"), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(decode(*chars, {3, 2, 4, 0}), "\u6771\u00e9a");
  EXPECT_EQ(chars->byte_length(3), 3);
  EXPECT_NE(chars->hash(), make_chars_tokenizer({'a', 'b'})->hash());
  for (const std::string_view text : {"abc", "ab\xFF", "ab\xE6\x9D"}) {
    try {
      encode(*chars, text);
      FAIL() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      EXPECT_EQ(e.report().where, "byte 2 of the text");
    }
  }
}

class TokenizerFile : public testing::Test {
 protected:
  TokenizerPtr load(const std::string& text) const {
    const std::string path = folder_.path("tokenizer.json");
    write_file_atomic(path, text);
    return load_tokenizer(path);
  }
  static std::string replaced(std::string text, std::string_view from, std::string_view to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  }
  // The part that the refusal names.
  std::string refused(const std::string& text) const {
    try {
      load(text);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      const std::string& where = e.report().where;
      return where.substr(std::min(where.size(), where.find(".json") + 5));
    }
    return "accepted";
  }
  TestFolder folder_;
};

TEST_F(TokenizerFile, reads_back_what_it_wrote) {
  const TokenizerPtr bytes = make_bytes_tokenizer();
  const TokenizerPtr chars = make_chars_tokenizer({'a', '"', '\\', '\n', 0, 0x7F, 0xE9, 0x1F600});
  for (const Tokenizer* t : {&gpt2(), bytes.get(), chars.get()}) {
    const TokenizerPtr back = load(t->tokenizer_json());
    EXPECT_EQ(back->kind(), t->kind());
    EXPECT_EQ(back->hash(), t->hash());
    EXPECT_EQ(back->tokenizer_json(), t->tokenizer_json());
  }
  EXPECT_NE(bytes->hash(), chars->hash());
}

TEST_F(TokenizerFile, refuses_others_and_names_the_part) {
  const std::string bytes = make_bytes_tokenizer()->tokenizer_json();
  EXPECT_EQ(refused(""), "");
  EXPECT_EQ(refused("[1]"), "");
  EXPECT_EQ(refused("{}"), " model.type");
  EXPECT_EQ(refused(bytes.substr(0, bytes.size() / 2)), "");
  EXPECT_EQ(refused(replaced(bytes, "\"BPE\"", "\"Unigram\"")), " model.type");
  EXPECT_EQ(refused(replaced(bytes, "\"!\":33", "\"!\":34")), " model.vocab");
  EXPECT_EQ(refused(replaced(bytes, "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}")),
            " normalizer");
  EXPECT_EQ(refused(replaced(bytes, "\"add_prefix_space\":false", "\"add_prefix_space\":true")),
            " pre_tokenizer.add_prefix_space");
  EXPECT_EQ(refused(replaced(bytes, "\"dropout\":null", "\"dropout\":0.1")), " model.dropout");
  EXPECT_EQ(refused(replaced(bytes, "\"merges\":[]", "\"merges\":[[\"a\",\"b\"]]")),
            " model.merges[0]");
  EXPECT_EQ(refused(replaced(bytes, "{\"version\"", "{\"extra\":1,\"version\"")), " \"extra\"");
  EXPECT_EQ(refused(bytes), "accepted");
}

// Processor time: what the test machine's other work does not change.
double thread_seconds() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// 1 MiB of what has broken other tokenizers: at most a second each.
TEST(TokenizerSlow, adversarial_megabytes) {
  std::mt19937 random(5);
  const std::size_t size = std::size_t{1} << 20;
  const auto repeat = [&](std::string_view part) {
    std::string text;
    while (text.size() < size) text += part;
    return text;
  };
  std::vector<std::string> texts = {
      repeat("\xCC\x81"), repeat("\u6771"),
      repeat("\xFF\xFE"), repeat("ab"),
      repeat("'"),        repeat(" \n"),
      repeat("\xF0\x9F"), repeat("abcdefghijklmnopqrstuvwxyzaeiouaeiouaeiouaeiouaeiouaeiouae ")};
  for (int byte = 0; byte < 256; ++byte) texts.emplace_back(size, static_cast<char>(byte));
  std::string noise;
  while (noise.size() < size) noise += static_cast<char>(random());
  texts.push_back(noise);
  for (char& c : noise) c = static_cast<char>('a' + static_cast<unsigned char>(c) % 26);
  texts.push_back(noise);
  double slowest = 0;
  for (const std::string& text : texts) {
    const double before = thread_seconds();
    const Ids ids = encode(gpt2(), text);
    const double seconds = thread_seconds() - before;
    slowest = std::max(slowest, seconds);
    ASSERT_EQ(decode(gpt2(), ids), text);
  }
  RecordProperty("slowest_seconds", std::to_string(slowest));
  EXPECT_LE(slowest, 1.0);
}

}  // namespace
}  // namespace sluice
