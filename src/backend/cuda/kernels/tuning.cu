// Used before step 1 alone; limit of both: the memory bandwidth.
#include "backend/cuda/kernels/tuning.h"

#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {
namespace {

constexpr int threads = 256, most_blocks = 2048;

__device__ inline std::uint64_t mixed(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

template <class T>
__global__ void fill_kernel(T* x, std::int64_t n, std::uint64_t seed) {
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < n;
       i += static_cast<std::int64_t>(gridDim.x) * threads) {
    const auto bits = static_cast<std::int32_t>(mixed(seed ^ static_cast<std::uint64_t>(i)));
    store(x + i, static_cast<float>(bits) * 4.656612873e-10f);
  }
}

__global__ void fingerprint_kernel(const std::uint32_t* x, std::int64_t n,
                                   unsigned long long* sum) {
  unsigned long long own = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < n;
       i += static_cast<std::int64_t>(gridDim.x) * threads)
    own += mixed(static_cast<std::uint64_t>(i) << 32 | x[i]);
  atomicAdd(sum, own);
}

unsigned blocks_for(std::int64_t n) {
  const std::int64_t blocks = (n + threads - 1) / threads;
  return static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks);
}

}  // namespace

void fill_random(cudaStream_t s, Type type, void* x, std::int64_t n, std::uint64_t seed) {
  with_type(type, [&]<class T>(T*) {
    fill_kernel<<<blocks_for(n), threads, 0, s>>>(static_cast<T*>(x), n, seed);
  });
}

void add_fingerprint(cudaStream_t s, const void* x, std::int64_t bytes, unsigned long long* sum) {
  const std::int64_t n = bytes / 4;
  fingerprint_kernel<<<blocks_for(n), threads, 0, s>>>(static_cast<const std::uint32_t*>(x), n,
                                                       sum);
}

}  // namespace sluice::gpu
