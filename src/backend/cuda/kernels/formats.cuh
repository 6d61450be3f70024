// The formats of ops/optimizer/formats.h in device code, bit for bit. A block of 128 numbers
// belongs to a warp, four neighbours to a lane; numbers past the end of a row are zero.
#pragma once

#include <cfloat>

#include "backend/cuda/kernels/common.cuh"

namespace sluice::gpu {

constexpr int block_size = 128;
constexpr float smallest_absmax = 0x1p-100f, smallest_root = 0x1p-63f;

__device__ inline unsigned bits_or_quiet(float x) {
  const unsigned u = __float_as_uint(x);
  return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : u;
}

__device__ inline float join_master(std::uint16_t hi, std::int16_t low) {
  return __uint_as_float((static_cast<unsigned>(hi) << 16) +
                         static_cast<unsigned>(static_cast<int>(low)));
}
__device__ inline void split_master(float master, std::uint16_t& hi, std::int16_t& low) {
  const unsigned u = bits_or_quiet(master);
  hi = static_cast<std::uint16_t>((u + 0x8000u) >> 16);
  low = static_cast<std::int16_t>(u & 0xffffu);
}
__device__ inline std::uint16_t round_at_random(float x, unsigned draw) {
  const unsigned u = bits_or_quiet(x);
  const unsigned added = (u & 0x7f800000u) == 0x7f800000u ? 0u : draw >> 16;
  return static_cast<std::uint16_t>((u + added) >> 16);
}

// Of numbers that are not negative: as bits they have the same order.
__device__ inline float warp_max(float x) {
  return __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(x)));
}

__device__ inline std::uint8_t encode_e4m3(float x) {
  const unsigned u = __float_as_uint(x), size = u & 0x7fffffffu;
  if (size > 0x7f800000u) return 0x7f;
  const unsigned small = __float_as_uint(__uint_as_float(size) + 0x1p14f) & 0xfu;
  const unsigned normal = ((size + 0x7ffffu + ((size >> 20) & 1u)) >> 20) - (120u << 3);
  const unsigned code = size < 0x3c800000u ? small : normal;  // 2⁻⁶
  return static_cast<std::uint8_t>(min(code, 0x7eu) | ((u >> 24) & 0x80u));
}
__device__ inline float decode_e4m3(std::uint8_t code) {
  const unsigned size = code & 0x7fu, sign = static_cast<unsigned>(code & 0x80u) << 24;
  if (size == 0x7f) return __uint_as_float(sign | 0x7fc00000u);
  const float x =
      size < 8 ? static_cast<float>(size) * 0x1p-9f : __uint_as_float((size << 20) + (120u << 23));
  return __uint_as_float(sign | __float_as_uint(x));
}

// Both return the block's scale.
__device__ inline float encode_m(const float (&m)[4], std::uint8_t (&codes)[4]) {
  float absmax = 0;
  for (const float x : m)
    if (x == x) absmax = fmaxf(absmax, fminf(fabsf(x), FLT_MAX));
  absmax = warp_max(absmax);
  const bool zeros = absmax < smallest_absmax;
  const float inverse = zeros ? 0.0f : 448.0f / absmax;
  for (int i = 0; i < 4; ++i) codes[i] = encode_e4m3(m[i] * inverse);
  return zeros ? 0.0f : absmax / 448.0f;
}

__device__ inline float whole_at_random(float x, float draw) {
  const float down = floorf(x);
  return draw < x - down ? down + 1.0f : down;
}

__device__ inline float encode_v(float (&v)[4], const unsigned (&draws)[4],
                                 std::uint8_t (&codes)[4]) {
  float most = 0;
  for (float& x : v) {
    x = sqrtf(x < FLT_MAX ? x : FLT_MAX);
    most = fmaxf(most, x);
  }
  most = warp_max(most);
  const bool zeros = most < smallest_root;
  const float scale = zeros ? 0.0f : most / 65025.0f;
  const float inverse = zeros ? 0.0f : 1 / scale;
  for (int i = 0; i < 4; ++i) {
    const float draw = static_cast<float>(draws[i] & 0xffffu) * 0x1p-16f;
    const float code = fminf(whole_at_random(sqrtf(v[i] * inverse), draw), 255.0f);
    codes[i] = static_cast<std::uint8_t>(static_cast<int>(code));
  }
  return scale;
}
// v as it goes on, and as an update reads it.
__device__ inline void decode_v(std::uint8_t code, float scale, float& kept, float& read) {
  const int c = code, next = c + 1;
  const float root = static_cast<float>(c * c) * scale;
  const float above = static_cast<float>(next * next) * (scale * (1 + 0x1p-20f));
  kept = root * root;
  read = above * above;
}

// What int8 makes of a block, and what is stored of it; returns the block's scale.
__device__ inline float round_to_int8(float (&x)[4], const unsigned (&draws)[4],
                                      std::int8_t (&codes)[4]) {
  float absmax = 0;
  bool finite = true;
  for (const float one : x) {
    finite = finite && isfinite(one);
    absmax = fmaxf(absmax, fabsf(one));
  }
  finite = __all_sync(~0u, finite);
  absmax = warp_max(absmax);
  const bool zeros = absmax < smallest_absmax;
  const float inverse = zeros ? 0.0f : 127.0f / absmax;
  const float scale = !finite ? __uint_as_float(0x7fc00000u) : zeros ? 0.0f : absmax / 127.0f;
  for (int i = 0; i < 4; ++i) {
    const float steps = fmaxf(fminf(x[i] * inverse, 127.0f), -127.0f);
    const float draw = static_cast<float>(draws[i] >> 8) * 0x1p-24f;
    const float code = finite ? whole_at_random(steps, draw) : 0.0f;
    codes[i] = static_cast<std::int8_t>(static_cast<int>(code));
    x[i] = code * scale;
  }
  return scale;
}

}  // namespace sluice::gpu
