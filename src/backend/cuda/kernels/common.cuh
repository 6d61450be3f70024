// What device code shares: numbers in storage and in float32, sums over a block, random numbers.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "backend/cuda/kernels/kernels.h"

namespace sluice::gpu {

using bfloat = __nv_bfloat16;

// Calls f with a null pointer of the storage type.
template <class F>
auto with_type(Type type, F f) {
  if (type == Type::f32) return f(static_cast<float*>(nullptr));
  return f(static_cast<bfloat*>(nullptr));
}

__device__ inline float load(const float* p) { return *p; }
__device__ inline float load(const bfloat* p) { return __bfloat162float(*p); }
__device__ inline void store(float* p, float x) { *p = x; }
__device__ inline void store(bfloat* p, float x) { *p = __float2bfloat16_rn(x); }
// x as a T keeps it.
__device__ inline float kept(const float*, float x) { return x; }
__device__ inline float kept(const bfloat*, float x) {
  return __bfloat162float(__float2bfloat16_rn(x));
}

// Eight neighbours at a time: two accesses of 16 bytes in float32, one in bf16.
constexpr int lot = 8;
struct Lot {
  float x[lot];
};
template <class T>
__device__ inline bool aligned(const T* p) {
  return (reinterpret_cast<std::uintptr_t>(p) & 15) == 0;
}
__device__ inline void load_whole(const float* p, Lot& to) {
  const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
  to.x[0] = a.x, to.x[1] = a.y, to.x[2] = a.z, to.x[3] = a.w;
  to.x[4] = b.x, to.x[5] = b.y, to.x[6] = b.z, to.x[7] = b.w;
}
__device__ inline void load_whole(const bfloat* p, Lot& to) {
  const uint4 raw = *reinterpret_cast<const uint4*>(p);
  const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to.x[2 * i] = __uint_as_float(words[i] << 16);
    to.x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
__device__ inline void store_whole(float* p, const Lot& from) {
  const float* x = from.x;
  reinterpret_cast<float4*>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
  reinterpret_cast<float4*>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
}
__device__ inline void store_whole(bfloat* p, const Lot& from) {
  unsigned words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned low = __bfloat16_as_ushort(__float2bfloat16_rn(from.x[2 * i]));
    const unsigned high = __bfloat16_as_ushort(__float2bfloat16_rn(from.x[2 * i + 1]));
    words[i] = low | high << 16;
  }
  *reinterpret_cast<uint4*>(p) = make_uint4(words[0], words[1], words[2], words[3]);
}
// `count` of them, 1 to 8; the others are zero, or stay as they were.
template <class T>
__device__ inline Lot load_lot(const T* p, int count) {
  Lot out = {};
  if (count == lot && aligned(p)) {
    load_whole(p, out);
  } else {
#pragma unroll  // an index that is known keeps the numbers in registers
    for (int i = 0; i < lot; ++i)
      if (i < count) out.x[i] = load(p + i);
  }
  return out;
}
template <class T>
__device__ inline void store_lot(T* p, const Lot& from, int count) {
  if (count == lot && aligned(p)) {
    store_whole(p, from);
  } else {
#pragma unroll
    for (int i = 0; i < lot; ++i)
      if (i < count) store(p + i, from.x[i]);
  }
}

// body(i, count) for every lot of [0, n), a thread each.
template <class Body>
__global__ void lots_kernel(std::int64_t n, Body body) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * lot;
  if (i < n) body(i, static_cast<int>(n - i < lot ? n - i : lot));
}
template <class Body>
void for_lots(cudaStream_t s, std::int64_t n, Body body) {
  constexpr int threads = 256;
  const std::int64_t lots = (n + lot - 1) / lot;
  if (lots == 0) return;
  lots_kernel<<<static_cast<unsigned>((lots + threads - 1) / threads), threads, 0, s>>>(n, body);
}

// The sum (or maximum) of one number per thread, known to all of them; one order for each block
// size. REQUIRES: whole warps, every thread of the block calls it. `room`: 33 numbers shared by
// the block.
template <class Number, class Join>
__device__ inline Number joined(Number x, Number* room, Join join) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) x = join(x, __shfl_xor_sync(~0u, x, other));
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  __syncthreads();
  if (lane == 0) room[warp] = x;
  __syncthreads();
  if (threadIdx.x == 0) {
    Number all = room[0];
    for (int w = 1; w < warps; ++w) all = join(all, room[w]);
    room[32] = all;
  }
  __syncthreads();
  return room[32];
}
template <class Number>
__device__ inline Number block_sum(Number x, Number* room) {
  return joined(x, room, [](Number a, Number b) { return a + b; });
}

// Philox 4x32-10: the four numbers of elements 4 block … 4 block + 3 (core/random.h).
__device__ inline uint4 philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t block) {
  unsigned c0 = static_cast<unsigned>(block), c1 = static_cast<unsigned>(block >> 32);
  unsigned c2 = static_cast<unsigned>(stream), c3 = static_cast<unsigned>(stream >> 32);
  unsigned k0 = static_cast<unsigned>(seed), k1 = static_cast<unsigned>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned a = 0xD2511F53u * c0, a_high = __umulhi(0xD2511F53u, c0);
    const unsigned b = 0xCD9E8D57u * c2, b_high = __umulhi(0xCD9E8D57u, c2);
    c0 = b_high ^ c1 ^ k0, c1 = b;
    c2 = a_high ^ c3 ^ k1, c3 = a;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return make_uint4(c0, c1, c2, c3);
}
__device__ inline unsigned one_of(const uint4& four, unsigned which) {
  return which == 0 ? four.x : which == 1 ? four.y : which == 2 ? four.z : four.w;
}
__device__ inline unsigned random_bits(std::uint64_t seed, std::uint64_t stream,
                                       std::uint64_t element) {
  return one_of(philox(seed, stream, element / 4), static_cast<unsigned>(element % 4));
}

// dropout_stream() of ops/dropout/dropout.h.
__device__ inline std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
__device__ inline std::uint64_t stream_at(std::uint64_t stream, int layer, std::int64_t step) {
  const std::uint64_t of_layer = mixed(stream ^ static_cast<std::uint64_t>(layer));
  return mixed(of_layer ^ static_cast<std::uint64_t>(step));
}
constexpr int control_step = 1, control_first_row = 2;  // slots of ops/optimizer/optimizer.h
__device__ inline std::uint64_t stream_now(const Mask& mask) {
  const auto step = static_cast<std::int64_t>(mask.control[control_step]);
  return stream_at(mask.stream, mask.layer, step);
}

}  // namespace sluice::gpu
