#include "data/bpe.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <functional>

namespace sluice {

BpeMerges::BpeMerges(std::size_t merges) : slots_(std::bit_ceil(2 * merges + 2)) {}

// The slot that holds the pair, or the empty one where it would go.
std::size_t BpeMerges::place(std::uint32_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = (std::uint64_t{pair} * 0x9E3779B97F4A7C15ull >> 32) & mask;
  while (slots_[at].merged != none && slots_[at].pair != pair) at = (at + 1) & mask;
  return at;
}

void BpeMerges::add(std::int32_t left, std::int32_t right, std::int32_t merged) {
  assert(left >= 0 && left < 65536 && right >= 0 && right < 65536);
  const std::uint32_t pair =
      static_cast<std::uint32_t>(left) << 16 | static_cast<std::uint32_t>(right);
  slots_[place(pair)] = {pair, merged};
}

std::int32_t BpeMerges::find(std::int32_t left, std::int32_t right) const {
  return slots_[place(static_cast<std::uint32_t>(left) << 16 | static_cast<std::uint32_t>(right))]
      .merged;
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
  std::array<std::int32_t, short_piece> merged;  // of ids[i], ids[i + 1]
  std::size_t n = piece.size();
  for (std::size_t i = 0; i < n; ++i) ids[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
  for (std::size_t i = 0; i + 1 < n; ++i) merged[i] = find(ids[i], ids[i + 1]);
  while (n > 1) {
    std::size_t best = n;
    for (std::size_t i = 0; i + 1 < n; ++i) {
      if (merged[i] != none && (best == n || merged[i] < merged[best])) best = i;
    }
    if (best == n) break;
    ids[best] = merged[best];
    std::copy(ids.begin() + best + 2, ids.begin() + n, ids.begin() + best + 1);
    if (best + 2 < n) {
      std::copy(merged.begin() + best + 2, merged.begin() + n - 1, merged.begin() + best + 1);
    }
    --n;
    if (best > 0) merged[best - 1] = find(ids[best - 1], ids[best]);
    if (best + 1 < n) merged[best] = find(ids[best], ids[best + 1]);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + n);
}

// A linked list of symbols and a heap of candidate merges, ordered by rank, then place. A candidate
// that a neighbour's merge has made stale is known by its result and skipped when it comes up.
void BpeMerges::encode_long(std::string_view piece, std::vector<std::int32_t>& out,
                            Scratch& scratch) const {
  constexpr std::uint32_t nobody = ~0u;
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto n = static_cast<std::uint32_t>(piece.size());
  symbols.resize(n);
  heap.clear();
  const auto lowest_first = std::greater<>();
  const auto entry = [](std::int32_t merged, std::uint32_t left) {
    return static_cast<std::uint64_t>(merged) << 32 | left;
  };
  for (std::uint32_t i = n; i-- > 0;) {
    const bool last = i + 1 == n;
    auto& symbol = symbols[i];
    symbol = {byte_ids_[static_cast<unsigned char>(piece[i])], none, i == 0 ? nobody : i - 1,
              last ? nobody : i + 1};
    if (!last) symbol.merged = find(symbol.id, symbols[i + 1].id);
    if (symbol.merged != none) heap.push_back(entry(symbol.merged, i));
  }
  std::make_heap(heap.begin(), heap.end(), lowest_first);
  const auto renew = [&](std::uint32_t left) {
    auto& symbol = symbols[left];
    symbol.merged = symbol.next == nobody ? none : find(symbol.id, symbols[symbol.next].id);
    if (symbol.merged == none) return;
    heap.push_back(entry(symbol.merged, left));
    std::push_heap(heap.begin(), heap.end(), lowest_first);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), lowest_first);
    const auto merged = static_cast<std::int32_t>(heap.back() >> 32);
    const auto left = static_cast<std::uint32_t>(heap.back());
    heap.pop_back();
    auto& symbol = symbols[left];
    if (symbol.merged != merged) continue;
    auto& right = symbols[symbol.next];
    right.merged = none;
    symbol.id = merged;
    symbol.next = right.next;
    if (right.next != nobody) symbols[right.next].previous = left;
    if (symbol.previous != nobody) renew(symbol.previous);
    renew(left);
  }
  for (std::uint32_t i = 0; i != nobody; i = symbols[i].next) out.push_back(symbols[i].id);
}

}  // namespace sluice
