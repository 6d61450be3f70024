// Dropout of attention's probabilities: the masks of the CPU, bit for bit.
#pragma once

#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {

// What a probability of head n of sequence b is multiplied by: 0 or 1 / (1 - rate).
struct Kept {
  Mask mask;
  std::uint64_t stream = 0, row = 0, line = 0;
  __device__ Kept(const AttentionShape& a, std::int64_t b, std::int64_t n) : mask(a.mask) {
    if (mask.threshold == 0) return;
    stream = stream_now(mask);
    const auto first = static_cast<std::int64_t>(mask.control[control_first_row]);
    row = static_cast<std::uint64_t>(((first + b) * a.heads + n) * a.time);
    line = static_cast<std::uint64_t>((a.time + 3) / 4 * 4);
  }
  __device__ float operator()(std::int64_t t, std::int64_t key) const {
    if (mask.threshold == 0) return 1;
    const std::uint64_t element =
        (row + static_cast<std::uint64_t>(t)) * line + static_cast<std::uint64_t>(key);
    return random_bits(mask.seed, stream, element) < mask.threshold ? 0.0f : mask.scale;
  }
};

}  // namespace sluice::gpu
