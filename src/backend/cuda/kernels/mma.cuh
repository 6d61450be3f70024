// Products on the tensor cores, a warp at a time: bf16 tiles in shared memory, float32 sums in
// registers. mma.sync m16n8k16; fragments lie as the PTX manual says: of a tile of 16 x 8 sums a
// lane has rows lane / 4 and lane / 4 + 8, columns 2 (lane % 4) and the next.
#pragma once

#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {

// Rows of `width` numbers, 16 bytes of padding between them: eight neighbours' 16-byte reads fall
// into different banks.
template <int width>
struct Tile {
  static constexpr int line = width + 8;
  bfloat* data;
  __device__ bfloat* at(int row, int column) const { return data + row * line + column; }
};

__device__ inline unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
__device__ inline void load_fragments(unsigned (&r)[4], const bfloat* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p))
               : "memory");
}
__device__ inline void load_transposed(unsigned (&r)[4], const bfloat* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p))
               : "memory");
}
__device__ inline void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                    unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline unsigned packed(float low, float high) {
  const unsigned l = __bfloat16_as_ushort(__float2bfloat16_rn(low));
  const unsigned h = __bfloat16_as_ushort(__float2bfloat16_rn(high));
  return l | h << 16;
}

// sums[j] = 16 rows of a from `row` on, times rows 8 j … 8 j + 7 of b: 16 x (8 tiles).
template <int width, int tiles>
__device__ void times_transposed(Tile<width> a, int row, Tile<width> b, float (&sums)[tiles][4]) {
  const int lane = threadIdx.x % 32;
  for (auto& tile : sums)
    for (float& x : tile) x = 0;
#pragma unroll
  for (int k = 0; k < width; k += 16) {
    unsigned left[4];
    load_fragments(left, a.at(row + lane % 16, k + lane / 16 * 8));
#pragma unroll
    for (int j = 0; j < tiles; j += 2) {
      unsigned right[4];
      load_fragments(right, b.at(8 * j + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
      multiply_add(sums[j], left, right[0], right[1]);
      multiply_add(sums[j + 1], left, right[2], right[3]);
    }
  }
}

// sums += weights (16 x 8 tiles, rounded to bf16) times rows of b: 16 x width.
template <int width, int tiles>
__device__ void add_times(const float (&weights)[tiles][4], Tile<width> b,
                          float (&sums)[width / 8][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < tiles; k += 2) {
    const unsigned left[4] = {
        packed(weights[k][0], weights[k][1]), packed(weights[k][2], weights[k][3]),
        packed(weights[k + 1][0], weights[k + 1][1]), packed(weights[k + 1][2], weights[k + 1][3])};
#pragma unroll
    for (int j = 0; j < width / 8; j += 2) {
      unsigned right[4];
      load_transposed(right, b.at(8 * k + lane % 16, 8 * j + lane / 16 * 8));
      multiply_add(sums[j], left, right[0], right[1]);
      multiply_add(sums[j + 1], left, right[2], right[3]);
    }
  }
}

// Copies that arrive while the warps go on; `bytes` 0: zeros.
__device__ inline void copy_16(bfloat* to, const bfloat* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(bytes)
               : "memory");
}
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int later>  // all but the `later` newest groups have arrived
__device__ inline void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(later) : "memory");
}

}  // namespace sluice::gpu
