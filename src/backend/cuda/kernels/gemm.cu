// Our own product, for shapes that cuBLASLt has no algorithm for: a tile of 16 x 16 results for
// each block, K in one order. 2 m n k operations in float32; no try at their limit.
#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {
namespace {

constexpr int tile = 16;

template <class T, class C>
__global__ void gemm_kernel(Gemm g) {
  __shared__ float a_tile[tile][tile + 1], b_tile[tile][tile + 1];
  const T* const a = static_cast<const T*>(g.a);
  const T* const b = static_cast<const T*>(g.b);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * tile + threadIdx.y;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * tile + threadIdx.x;
  float sum = 0;
  for (std::int64_t begin = 0; begin < g.k; begin += tile) {
    const std::int64_t ka = begin + threadIdx.x, kb = begin + threadIdx.y;
    const bool has_a = row < g.m && ka < g.k, has_b = column < g.n && kb < g.k;
    const std::int64_t from_a = g.a_transposed ? ka * g.lda + row : row * g.lda + ka;
    const std::int64_t from_b = g.b_transposed ? column * g.ldb + kb : kb * g.ldb + column;
    a_tile[threadIdx.y][threadIdx.x] = has_a ? load(a + from_a) : 0.0f;
    b_tile[threadIdx.y][threadIdx.x] = has_b ? load(b + from_b) : 0.0f;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < tile; ++i) sum = fmaf(a_tile[threadIdx.y][i], b_tile[i][threadIdx.x], sum);
    __syncthreads();
  }
  if (row >= g.m || column >= g.n) return;
  C* const c = static_cast<C*>(g.c) + row * g.ldc + column;
  const float before = g.beta == 0 ? 0.0f : g.beta * load(c);
  store(c, fmaf(g.alpha, sum, before));
}

}  // namespace

void gemm(cudaStream_t s, const Gemm& g) {
  const dim3 grid(static_cast<unsigned>((g.n + tile - 1) / tile),
                  static_cast<unsigned>((g.m + tile - 1) / tile));
  with_type(g.type, [&]<class T>(T*) {
    with_type(g.c_type,
              [&]<class C>(C*) { gemm_kernel<T, C><<<grid, dim3(tile, tile), 0, s>>>(g); });
  });
}

}  // namespace sluice::gpu
