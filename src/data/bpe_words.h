// The different pieces of some texts and how often each occurs: what a BPE is learnt from.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/splitter.h"

namespace sluice {

struct CountedWord {
  std::uint64_t hash = 0;
  std::string_view bytes;  // somewhere in the texts
  std::int64_t count = 0;
};

// Sorted by hash, then bytes: the same for any number of threads.
std::vector<CountedWord> count_words(std::span<const std::string_view> texts, Splitter splitter,
                                     int threads);

}  // namespace sluice
