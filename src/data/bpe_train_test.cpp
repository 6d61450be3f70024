#include "data/bpe_train.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "core/file.h"

namespace sluice {
namespace {

const std::string goldens = SLUICE_SOURCE_DIR "/tests/goldens/tokenizers/";

std::vector<std::string> golden_strings() {
  std::vector<std::string> out;
  const std::string text = read_file(goldens + "strings.jsonl");
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    out.push_back(nlohmann::json::parse(text.substr(at, end - at))["text"]);
    at = end + 1;
  }
  return out;
}

BpeDefinition train(const std::vector<std::string>& texts, const BpeTrainOptions& options) {
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  return train_bpe(views, options);
}

std::string merges_of(const BpeDefinition& made) {
  std::string out;
  for (const BpeDefinition::Pair& pair : made.pairs)
    out += symbols_of(made.tokens[static_cast<std::size_t>(pair.left)]) + ' ' +
           symbols_of(made.tokens[static_cast<std::size_t>(pair.right)]) + '\n';
  return out;
}

// What Hugging Face's trainer learns from the same strings (tools/goldens/bpe.py).
TEST(BpeTrain, merges_are_hugging_faces) {
  const std::vector<std::string> texts = golden_strings();
  for (const Splitter splitter : {Splitter::gpt2, Splitter::llama3}) {
    const BpeDefinition made = train(texts, {.vocab = 1500, .splitter = splitter});
    EXPECT_EQ(merges_of(made),
              read_file(fmt::format("{}trained-{}.txt", goldens, name_of(splitter))));
    EXPECT_EQ(made.end_of_text, static_cast<std::int32_t>(made.tokens.size()));
    EXPECT_EQ(made.tokens.size(), 256 + made.pairs.size());
  }
  // The control: another splitter learns something else.
  EXPECT_NE(merges_of(train(texts, {.vocab = 1500, .splitter = Splitter::llama3})),
            read_file(goldens + "trained-gpt2.txt"));
}

TEST(BpeTrain, threads_change_nothing) {
  std::mt19937 random(21);
  const std::vector<std::string> strings = golden_strings();
  std::vector<std::string> texts(3);
  for (std::string& text : texts)
    while (text.size() < (std::size_t{3} << 20)) text += strings[random() % strings.size()] + " ";
  const BpeTrainOptions one = {.vocab = 600};
  const std::string expected = merges_of(train(texts, one));
  for (const int threads : {2, 3, 7}) {
    BpeTrainOptions options = one;
    options.threads = threads;
    EXPECT_EQ(merges_of(train(texts, options)), expected) << threads;
  }
  std::swap(texts[0], texts[2]);
  EXPECT_EQ(merges_of(train(texts, one)), expected);
  texts[1].clear();
  EXPECT_NE(merges_of(train(texts, one)), expected);
}

// By the book, from the definition: count all pairs anew for each merge.
std::string slow_merges(const std::vector<std::string>& words, std::size_t merges) {
  const std::vector<std::string> bytes = bytes_by_symbol();
  std::map<std::string, int> ids;
  std::vector<std::string> tokens = bytes;
  for (std::size_t i = 0; i < 256; ++i) ids[bytes[i]] = static_cast<int>(i);
  std::vector<std::vector<int>> symbols;
  for (const std::string& word : words) {
    std::vector<int>& out = symbols.emplace_back();
    for (const char c : word) out.push_back(ids.at(std::string(1, c)));
  }
  std::string out;
  for (std::size_t done = 0; done < merges; ++done) {
    std::map<std::pair<int, int>, int> counts;
    for (const std::vector<int>& word : symbols)
      for (std::size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    auto best = counts.end();
    for (auto at = counts.begin(); at != counts.end(); ++at)
      if (best == counts.end() || at->second > best->second) best = at;
    if (best == counts.end() || best->second < 2) break;
    const auto [left, right] = best->first;
    const std::string& l = tokens[static_cast<std::size_t>(left)];
    const std::string& r = tokens[static_cast<std::size_t>(right)];
    out += symbols_of(l) + ' ' + symbols_of(r) + '\n';
    const int id = static_cast<int>(tokens.size());
    tokens.push_back(l + r);
    for (std::vector<int>& word : symbols) {
      std::vector<int> next;
      for (std::size_t i = 0; i < word.size(); ++i) {
        const bool here = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
        next.push_back(here ? id : word[i]);
        i += here;
      }
      word = std::move(next);
    }
  }
  return out;
}

TEST(BpeTrain, equals_the_slow_algorithm) {
  std::mt19937 random(22);
  int compared = 0;
  for (int trial = 0; trial < 30; ++trial) {
    std::vector<std::string> words;
    for (unsigned i = 0; i < 20 + random() % 60; ++i) {
      std::string& word = words.emplace_back();
      for (unsigned n = 1 + random() % 12; n > 0; --n)
        word += static_cast<char>('a' + random() % 8);
    }
    const std::string expected = slow_merges(words, 15);
    const auto merges =
        static_cast<std::int32_t>(std::count(expected.begin(), expected.end(), '\n'));
    const BpeDefinition made = train(words, {.vocab = 257 + merges});
    // A string may be made of two pairs, then with one id: the definition above has no such case.
    if (made.tokens.size() != 256u + static_cast<std::size_t>(merges)) continue;
    if (made.pairs.size() != static_cast<std::size_t>(merges)) continue;
    ASSERT_EQ(merges_of(made), expected);
    ++compared;
  }
  EXPECT_GT(compared, 20);
}

TEST(BpeTrain, ends_when_nothing_is_left) {
  const BpeDefinition made = train({"abab"}, {.vocab = 5000});
  EXPECT_EQ(merges_of(made), "a b\n");
  EXPECT_EQ(merges_of(train({"abab"}, {.vocab = 5000, .min_frequency = 1})), "a b\nab ab\n");
  EXPECT_EQ(merges_of(train({"abab"}, {.vocab = 257})), "");
  EXPECT_TRUE(train({}, {.vocab = 300}).pairs.empty());
  EXPECT_EQ(train({}, {.vocab = 300}).end_of_text, 256);
}

}  // namespace
}  // namespace sluice
