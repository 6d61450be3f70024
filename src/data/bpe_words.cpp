#include "data/bpe_words.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <tuple>

#include "core/hash.h"

namespace sluice {
namespace {

// Open addressing; grows by doubling when half full.
class WordMap {
 public:
  WordMap() : slots_(std::size_t{1} << 12) {}

  void add(const CountedWord& word) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    CountedWord& slot = place(word);
    if (slot.count == 0) {
      slot = word;
      ++used_;
    } else {
      slot.count += word.count;
    }
  }
  std::vector<CountedWord> words() && {
    std::erase_if(slots_, [](const CountedWord& slot) { return slot.count == 0; });
    return std::move(slots_);
  }

 private:
  CountedWord& place(const CountedWord& word) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = word.hash & mask;
    while (slots_[at].count != 0 &&
           (slots_[at].hash != word.hash || slots_[at].bytes != word.bytes))
      at = (at + 1) & mask;
    return slots_[at];
  }
  void grow() {
    std::vector<CountedWord> old(2 * slots_.size());
    old.swap(slots_);
    for (const CountedWord& word : old)
      if (word.count != 0) place(word) = word;
  }
  std::vector<CountedWord> slots_;
  std::size_t used_ = 0;
};

// Parts of about a megabyte whose pieces are, together, those of the texts.
std::vector<std::string_view> parts_of(std::span<const std::string_view> texts, Splitter splitter) {
  constexpr std::size_t aim = std::size_t{1} << 20;
  std::vector<std::string_view> out;
  for (std::string_view text : texts) {
    while (splitter != Splitter::none && text.size() > aim) {
      std::size_t cut = aim;
      while (cut < text.size() && !is_safe_cut(text, cut)) ++cut;
      out.push_back(text.substr(0, cut));
      text.remove_prefix(cut);
    }
    if (!text.empty()) out.push_back(text);
  }
  return out;
}

void count(std::string_view text, Splitter splitter, WordMap& words) {
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, first_piece(splitter, text));
    text.remove_prefix(piece.size());
    words.add({hash64(piece), piece, 1});
  }
}

}  // namespace

std::vector<CountedWord> count_words(std::span<const std::string_view> texts, Splitter splitter,
                                     int threads) {
  const std::vector<std::string_view> parts = parts_of(texts, splitter);
  const auto workers =
      std::clamp<std::size_t>(static_cast<std::size_t>(std::max(threads, 1)), 1, parts.size() + 1);
  std::vector<WordMap> maps(workers);
  std::vector<std::exception_ptr> failures(workers);
  std::atomic<std::size_t> next = 0;
  const auto work = [&](std::size_t worker) {
    try {
      for (std::size_t part; (part = next.fetch_add(1)) < parts.size();)
        count(parts[part], splitter, maps[worker]);
    } catch (...) {
      failures[worker] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    for (std::size_t worker = 1; worker < workers; ++worker) others.emplace_back(work, worker);
    work(0);
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  for (std::size_t worker = 1; worker < workers; ++worker)
    for (const CountedWord& word : std::move(maps[worker]).words()) maps[0].add(word);
  std::vector<CountedWord> out = std::move(maps[0]).words();
  // A piece lies at many places; which of them was met first does not show in the order.
  std::sort(out.begin(), out.end(), [](const CountedWord& a, const CountedWord& b) {
    return std::tie(a.hash, a.bytes) < std::tie(b.hash, b.bytes);
  });
  return out;
}

}  // namespace sluice
