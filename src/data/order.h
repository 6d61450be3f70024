// The order of training samples in closed form: no index file, O(1) seek, the same for every cut of
// the work. A run's whole place in its data is one integer, the samples consumed so far: sample
// number `cursor` is shuffled(cursor % n, n, seed, cursor / n).
#pragma once

#include <cstdint>

namespace sluice {

// The image of i under a permutation of [0, n) that (seed, epoch) picks: a Feistel network of eight
// Philox rounds over the next power of four, walked along its cycle until it lands inside [0, n)
// (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Fewer than four walks on
// average. Pure; never allocates. REQUIRES: 0 <= i < n <= 2^62.
std::int64_t shuffled(std::int64_t i, std::int64_t n, std::uint64_t seed, std::uint64_t epoch);

}  // namespace sluice
