#include "data/order.h"

#include <bit>
#include <cassert>

#include "core/random.h"

namespace sluice {

std::int64_t shuffled(std::int64_t i, std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  assert(i >= 0 && i < n && n <= std::int64_t{1} << 62);
  const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
  const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
  const int bits = std::bit_width(static_cast<std::uint64_t>(n - 1));
  const int half = bits < 2 ? 1 : (bits + 1) / 2;
  const std::uint32_t mask = low((std::uint64_t{1} << half) - 1);
  auto at = static_cast<std::uint64_t>(i);
  do {
    std::uint32_t left = low(at >> half), right = low(at) & mask;
    for (std::uint32_t round = 0; round < 8; ++round) {
      const Philox mixed = philox({right, round, low(epoch), high(epoch)}, {low(seed), high(seed)});
      const std::uint32_t next = left ^ (mixed[0] & mask);
      left = right;
      right = next;
    }
    at = std::uint64_t{left} << half | right;
  } while (at >= static_cast<std::uint64_t>(n));
  return static_cast<std::int64_t>(at);
}

}  // namespace sluice
