// What measuring products needs: random numbers to multiply, and whether two results have the same
// bits.
#pragma once

#include "backend/cuda/kernels/kernels.h"

namespace sluice::gpu {

// n numbers between -1 and 1; the same seed gives the same numbers.
void fill_random(cudaStream_t s, Type type, void* x, std::int64_t n, std::uint64_t seed);
// *sum += a hash of 4-byte words and their places, whatever order they are read in.
void add_fingerprint(cudaStream_t s, const void* x, std::int64_t bytes, unsigned long long* sum);

}  // namespace sluice::gpu
