// numpy's permutation of a seed: np.random.default_rng(seed).permutation(n), number for number.
//
// PCG64 (O'Neill, HMC-CS-2014-0905; XSL-RR 128/64) begun by numpy's SeedSequence, its bits masked
// and drawn again where they are too large, in the swaps of Fisher and Yates from the end. Proven
// against goldens that numpy made (tools/goldens/numpy_shuffle.py).
#pragma once

#include <cstdint>
#include <vector>

namespace sluice {

class Pcg64 {
 public:
  explicit Pcg64(std::uint64_t seed);  // as numpy.random.default_rng(seed)
  std::uint64_t next64();
  std::uint32_t next32();  // both halves of a 64-bit number, the lower first
  // Uniform in [0, most], as a shuffle draws it.
  std::uint64_t up_to(std::uint64_t most);

 private:
  __extension__ using Wide = unsigned __int128;
  Wide state_ = 0, increment_ = 0;
  bool half_ = false;
  std::uint32_t upper_ = 0;
};

// REQUIRES: 0 <= n < 2^32.
std::vector<std::uint32_t> numpy_permutation(std::int64_t n, std::uint64_t seed);

}  // namespace sluice
