#include "data/bpe_train.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "data/bpe_words.h"

namespace sluice {
namespace {

using Key = std::uint64_t;  // left id << 32 | right id: in the order of (left, right)

Key key_of(std::int32_t left, std::int32_t right) {
  return static_cast<Key>(left) << 32 | static_cast<std::uint32_t>(right);
}

// Number of each pair, and what is known of it. Open addressing; grows by doubling.
class PairTable {
 public:
  struct Pair {
    Key key = 0;
    std::int64_t count = 0;
    std::vector<std::uint32_t> fresh;  // words where this merge has made it
  };
  PairTable() : slots_(std::size_t{1} << 16, empty) {}

  std::uint32_t number(Key key) {
    std::size_t at = place(key);
    if (slots_[at] != empty) return slots_[at];
    if (2 * (pairs_.size() + 1) > slots_.size()) {
      slots_.assign(2 * slots_.size(), empty);
      for (std::uint32_t i = 0; i < pairs_.size(); ++i) slots_[place(pairs_[i].key)] = i;
      at = place(key);
    }
    slots_[at] = static_cast<std::uint32_t>(pairs_.size());
    pairs_.push_back({key, 0, {}});
    return slots_[at];
  }
  Pair& operator[](std::uint32_t number) { return pairs_[number]; }

 private:
  static constexpr std::uint32_t empty = ~0u;
  std::size_t place(Key key) const {
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t mixed = key * 0x9E3779B97F4A7C15ull;
    std::size_t at = (mixed ^ mixed >> 32) & mask;
    while (slots_[at] != empty && pairs_[slots_[at]].key != key) at = (at + 1) & mask;
    return at;
  }
  std::vector<std::uint32_t> slots_;
  std::vector<Pair> pairs_;
};

// Hugging Face's algorithm, its corners included: a merge takes place in the words that were known
// when its candidate was queued, and one string may be made of several pairs, then with one id.
class Trainer {
 public:
  Trainer(const std::vector<CountedWord>& words, const BpeTrainOptions& options);

  BpeDefinition run();

 private:
  struct Word {
    std::size_t first;  // in symbols_
    std::uint32_t size;
    std::int64_t count;
  };
  struct Candidate {
    std::int64_t count;
    Key key;
    std::uint32_t pair;
    std::vector<std::uint32_t> words;
  };
  static bool later(const Candidate& a, const Candidate& b) {
    return a.count != b.count ? a.count < b.count : a.key > b.key;
  }

  void change(std::int32_t left, std::int32_t right, std::int64_t by, std::uint32_t word) {
    const std::uint32_t number = pairs_.number(key_of(left, right));
    PairTable::Pair& pair = pairs_[number];
    pair.count += by;
    if (by < 0) return;
    if (pair.fresh.empty()) touched_.push_back(number);
    if (pair.fresh.empty() || pair.fresh.back() != word) pair.fresh.push_back(word);
  }
  void queue_touched();
  void merge(std::uint32_t word, std::int32_t left, std::int32_t right, std::int32_t merged);
  std::int32_t id_of(std::int32_t left, std::int32_t right);
  BpeDefinition finish();

  const BpeTrainOptions options_;
  BpeDefinition out_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<std::int32_t> symbols_;
  std::vector<Word> words_;
  PairTable pairs_;
  std::vector<std::uint32_t> touched_;
  std::vector<Candidate> heap_;
};

Trainer::Trainer(const std::vector<CountedWord>& words, const BpeTrainOptions& options)
    : options_(options) {
  out_.splitter = options.splitter;
  out_.tokens = bytes_by_symbol();
  std::array<std::int32_t, 256> byte_ids;
  for (std::int32_t id = 0; id < 256; ++id) {
    const std::string& byte = out_.tokens[static_cast<std::size_t>(id)];
    byte_ids[static_cast<unsigned char>(byte[0])] = id;
    ids_.emplace(byte, id);
  }
  for (const CountedWord& word : words) {
    require(word.bytes.size() < 0xFFFFFFFF, [&] {
      return Error(Exit::input, {.what = "a word of the text is too long",
                                 .where = "",
                                 .expected = "white space somewhere in every 4 GiB",
                                 .found = fmt::format("{} bytes without any", word.bytes.size()),
                                 .tries = {}});
    });
    const auto number = static_cast<std::uint32_t>(words_.size());
    words_.push_back({symbols_.size(), static_cast<std::uint32_t>(word.bytes.size()), word.count});
    for (const char c : word.bytes) symbols_.push_back(byte_ids[static_cast<unsigned char>(c)]);
    for (std::size_t i = words_.back().first; i + 1 < symbols_.size(); ++i)
      change(symbols_[i], symbols_[i + 1], word.count, number);
  }
  queue_touched();
}

void Trainer::queue_touched() {
  for (const std::uint32_t number : touched_) {
    PairTable::Pair& pair = pairs_[number];
    std::vector<std::uint32_t> words = std::exchange(pair.fresh, {});
    if (pair.count <= 0) continue;
    heap_.push_back({pair.count, pair.key, number, std::move(words)});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  touched_.clear();
}

void Trainer::merge(std::uint32_t number, std::int32_t left, std::int32_t right,
                    std::int32_t merged) {
  Word& word = words_[number];
  std::int32_t* const at = symbols_.data() + word.first;
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < word.size;) {
    if (at[i] != left || i + 1 == word.size || at[i + 1] != right) {
      at[kept++] = at[i++];
      continue;
    }
    if (kept > 0) {
      change(at[kept - 1], left, -word.count, number);
      change(at[kept - 1], merged, word.count, number);
    }
    at[kept++] = merged;
    i += 2;
    if (i < word.size) {
      change(right, at[i], -word.count, number);
      change(merged, at[i], word.count, number);
    }
  }
  word.size = kept;
}

std::int32_t Trainer::id_of(std::int32_t left, std::int32_t right) {
  std::string bytes = out_.tokens[static_cast<std::size_t>(left)];
  bytes += out_.tokens[static_cast<std::size_t>(right)];
  const auto [at, made] = ids_.emplace(bytes, static_cast<std::int32_t>(out_.tokens.size()));
  if (made) out_.tokens.push_back(std::move(bytes));
  return at->second;
}

BpeDefinition Trainer::run() {
  const auto most = static_cast<std::size_t>(options_.vocab) - 1;  // one is end of text
  while (out_.tokens.size() < most && !heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    Candidate top = std::move(heap_.back());
    heap_.pop_back();
    if (const std::int64_t now = pairs_[top.pair].count; top.count != now) {
      top.count = now;
      heap_.push_back(std::move(top));
      std::push_heap(heap_.begin(), heap_.end(), later);
      continue;
    }
    if (top.count < std::max<std::int64_t>(1, options_.min_frequency)) break;
    const auto left = static_cast<std::int32_t>(top.key >> 32);
    const auto right = static_cast<std::int32_t>(top.key & 0xFFFFFFFF);
    const std::int32_t merged = id_of(left, right);
    out_.pairs.push_back({left, right, static_cast<std::int32_t>(out_.pairs.size()), merged});
    for (const std::uint32_t word : top.words) merge(word, left, right, merged);
    queue_touched();
  }
  return finish();
}

// A pair that was merged twice counts where it was merged last.
BpeDefinition Trainer::finish() {
  std::unordered_map<Key, std::int32_t> last;
  for (const BpeDefinition::Pair& pair : out_.pairs)
    last[key_of(pair.left, pair.right)] = pair.rank;
  std::erase_if(out_.pairs, [&](const BpeDefinition::Pair& pair) {
    return last.at(key_of(pair.left, pair.right)) != pair.rank;
  });
  for (std::size_t i = 0; i < out_.pairs.size(); ++i)
    out_.pairs[i].rank = static_cast<std::int32_t>(i);
  out_.end_of_text = static_cast<std::int32_t>(out_.tokens.size());
  out_.added.push_back(end_of_text_token(out_.end_of_text));
  return std::move(out_);
}

}  // namespace

BpeDefinition train_bpe(std::span<const std::string_view> texts, const BpeTrainOptions& options) {
  return Trainer(count_words(texts, options.splitter, options.threads), options).run();
}

}  // namespace sluice
