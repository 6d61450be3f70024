#include "data/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace sluice {
namespace {

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

BpeMerges::BpeMerges(std::size_t merges) : slots_(std::bit_ceil(2 * merges + 2)) {}

// The slot that holds the pair, or the empty one where it would go.
std::size_t BpeMerges::place(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  const std::uint64_t mixed = pair * 0x9E3779B97F4A7C15ull;
  std::size_t at = (mixed ^ mixed >> 32) & mask;
  while (slots_[at].merge.rank != never && slots_[at].pair != pair) at = (at + 1) & mask;
  return at;
}

void BpeMerges::add(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t pair = key_of(left, right);
  slots_[place(pair)] = {pair, merge};
}

BpeMerges::Merge BpeMerges::find(std::int32_t left, std::int32_t right) const {
  return slots_[place(key_of(left, right))].merge;
}

void BpeMerges::encode(std::string_view piece, std::vector<std::int32_t>& out,
                       Scratch& scratch) const {
  if (piece.size() <= short_piece) {
    encode_short(piece, out);
  } else {
    encode_long(piece, out, scratch);
  }
}

// Quadratic, and the fastest for words: the symbols and what each pair would become, side by side.
void BpeMerges::encode_short(std::string_view piece, std::vector<std::int32_t>& out) const {
  std::array<std::int32_t, short_piece> ids;
  std::array<std::int32_t, short_piece> ranks;   // of ids[i], ids[i + 1]
  std::array<std::int32_t, short_piece> merged;  // what they become
  std::size_t n = piece.size();
  const auto look = [&](std::size_t i) {
    const Merge merge = find(ids[i], ids[i + 1]);
    ranks[i] = merge.rank;
    merged[i] = merge.merged;
  };
  for (std::size_t i = 0; i < n; ++i) ids[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
  for (std::size_t i = 0; i + 1 < n; ++i) look(i);
  while (n > 1) {
    const auto lowest = std::min_element(ranks.begin(), ranks.begin() + n - 1);
    if (*lowest == never) break;
    const auto best = static_cast<std::size_t>(lowest - ranks.begin());
    ids[best] = merged[best];
    std::copy(ids.begin() + best + 2, ids.begin() + n, ids.begin() + best + 1);
    if (best + 2 < n) {
      std::copy(ranks.begin() + best + 2, ranks.begin() + n - 1, ranks.begin() + best + 1);
      std::copy(merged.begin() + best + 2, merged.begin() + n - 1, merged.begin() + best + 1);
    }
    --n;
    if (best > 0) look(best - 1);
    if (best + 1 < n) look(best);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + n);
}

// A linked list of symbols and a heap of candidate merges, ordered by rank, then place. A candidate
// that a neighbour's merge has made stale is known by its rank and skipped when it comes up.
void BpeMerges::encode_long(std::string_view piece, std::vector<std::int32_t>& out,
                            Scratch& scratch) const {
  constexpr std::uint32_t nobody = ~0u;
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto n = static_cast<std::uint32_t>(piece.size());
  symbols.resize(n);
  heap.clear();
  const auto lowest_first = std::greater<>();
  const auto entry = [](std::int32_t rank, std::uint32_t left) {
    return static_cast<std::uint64_t>(rank) << 32 | left;
  };
  for (std::uint32_t i = n; i-- > 0;) {
    const bool last = i + 1 == n;
    auto& symbol = symbols[i];
    symbol = {byte_ids_[static_cast<unsigned char>(piece[i])],
              {},
              i == 0 ? nobody : i - 1,
              last ? nobody : i + 1};
    if (!last) symbol.merge = find(symbol.id, symbols[i + 1].id);
    if (symbol.merge.rank != never) heap.push_back(entry(symbol.merge.rank, i));
  }
  std::make_heap(heap.begin(), heap.end(), lowest_first);
  const auto renew = [&](std::uint32_t left) {
    auto& symbol = symbols[left];
    symbol.merge = symbol.next == nobody ? Merge() : find(symbol.id, symbols[symbol.next].id);
    if (symbol.merge.rank == never) return;
    heap.push_back(entry(symbol.merge.rank, left));
    std::push_heap(heap.begin(), heap.end(), lowest_first);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), lowest_first);
    const auto rank = static_cast<std::int32_t>(heap.back() >> 32);
    const auto left = static_cast<std::uint32_t>(heap.back());
    heap.pop_back();
    auto& symbol = symbols[left];
    if (symbol.merge.rank != rank) continue;
    auto& right = symbols[symbol.next];
    right.merge = {};
    symbol.id = symbol.merge.merged;
    symbol.next = right.next;
    if (right.next != nobody) symbols[right.next].previous = left;
    if (symbol.previous != nobody) renew(symbol.previous);
    renew(left);
  }
  for (std::uint32_t i = 0; i != nobody; i = symbols[i].next) out.push_back(symbols[i].id);
}

}  // namespace sluice
