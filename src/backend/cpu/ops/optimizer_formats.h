// The formats of ops/optimizer/formats.h for kernels: the same bits, many numbers at a time.
//
// For files of one instruction set, like Vec (see vec.h): everything is tagged by it. Plain loops
// over a buffer of fixed size, which the compiler turns into that set's instructions; only what it
// would not vectorise (square roots, maxima) is written with Vec. Buffers lie in the L1 cache.
#pragma once

#include "backend/cpu/philox.h"
#include "backend/cpu/vec.h"

namespace sluice::kernel {

inline constexpr std::int64_t block_size = 128;  // formats.h's state_block

template <Isa isa>
inline void join_masters(const std::uint16_t* hi, const std::int16_t* low, float* masters,
                         std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t u = (static_cast<std::uint32_t>(hi[i]) << 16) +
                            static_cast<std::uint32_t>(static_cast<std::int32_t>(low[i]));
    masters[i] = __builtin_bit_cast(float, u);
  }
}

template <Isa isa>
inline std::uint32_t bits_or_quiet(float x) {
  const auto u = __builtin_bit_cast(std::uint32_t, x);
  return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : u;
}

template <Isa isa>
inline void split_masters(const float* masters, std::uint16_t* hi, std::int16_t* low,
                          std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t u = bits_or_quiet<isa>(masters[i]);
    hi[i] = static_cast<std::uint16_t>((u + 0x8000u) >> 16);
    low[i] = static_cast<std::int16_t>(u & 0xffffu);
  }
}

template <Isa isa>
inline void widen(const std::uint16_t* x, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    y[i] = __builtin_bit_cast(float, static_cast<std::uint32_t>(x[i]) << 16);
}

template <Isa isa>
inline void round_at_random(const float* x, const std::uint32_t* draws, std::uint16_t* y,
                            std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t u = bits_or_quiet<isa>(x[i]);
    const std::uint32_t added = (u & 0x7f800000u) == 0x7f800000u ? 0u : draws[i] >> 16;
    y[i] = static_cast<std::uint16_t>((u + added) >> 16);
  }
}

// x = the bf16 next to it, ties to even, as core/dtype.h rounds.
template <Isa isa>
inline void round_to_bf16(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const auto u = __builtin_bit_cast(std::uint32_t, x[i]);
    const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
    const std::uint32_t quiet = (u & 0xffff0000u) | 0x400000u;
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    x[i] = __builtin_bit_cast(float, nan ? quiet : rounded);
  }
}

// The functions below work on whole blocks of 128; a shorter one is filled up with zeros.

// The largest of of(vector) over a block; at least 0.
template <Isa isa, class Of>
inline float largest_of(const float* x, Of of) {
  Vec<isa> a = Vec<isa>::zero(), b = a;
  for (std::int64_t i = 0; i < block_size; i += 32) {
    a = max(of(Vec<isa>::load(x + i)), a);
    b = max(of(Vec<isa>::load(x + i + 16)), b);
  }
  return reduce_max(max(a, b));
}

template <Isa isa>
inline float encode_m(const float* m, std::uint8_t* codes) {
  const Vec<isa> most = Vec<isa>::set(__FLT_MAX__);
  const float absmax = largest_of<isa>(m, [most](Vec<isa> x) {
    // A NaN passes neither comparison, and min() would make it the largest.
    return select(x <= x, min(abs(x), most), Vec<isa>::zero());
  });
  const bool zeros = absmax < 0x1p-100f;
  const float inverse = zeros ? 0 : 448.0f / absmax;
  for (std::int64_t i = 0; i < block_size; ++i) {
    const auto u = __builtin_bit_cast(std::uint32_t, m[i] * inverse);
    const std::uint32_t size = u & 0x7fffffffu;
    const float above = __builtin_bit_cast(float, size) + 0x1p14f;
    const std::uint32_t small = __builtin_bit_cast(std::uint32_t, above) & 0xfu;
    const std::uint32_t normal = ((size + 0x7ffffu + ((size >> 20) & 1u)) >> 20) - (120u << 3);
    const std::uint32_t code = size < 0x3c800000u ? small : normal;  // 2⁻⁶
    const std::uint32_t bounded = code < 0x7eu ? code : 0x7eu;
    const std::uint32_t any = size > 0x7f800000u ? 0x7fu : bounded | ((u >> 24) & 0x80u);
    codes[i] = static_cast<std::uint8_t>(any);
  }
  return zeros ? 0 : absmax / 448.0f;
}

template <Isa isa>
inline void decode_m(const std::uint8_t* codes, float scale, float* m) {
  for (std::int64_t i = 0; i < block_size; ++i) {
    const std::uint32_t code = codes[i], size = code & 0x7fu;
    const float small = static_cast<float>(static_cast<std::int32_t>(size)) * 0x1p-9f;
    const std::uint32_t normal = (size << 20) + (120u << 23);
    const std::uint32_t number = size < 8 ? __builtin_bit_cast(std::uint32_t, small) : normal;
    const std::uint32_t any = size == 0x7fu ? 0x7fc00000u : number;
    m[i] = __builtin_bit_cast(float, any | ((code & 0x80u) << 24)) * scale;
  }
}

// down, or the next whole number when the draw is below the rest.
template <Isa isa>
inline Vec<isa> whole_at_random(Vec<isa> x, Vec<isa> draw) {
  using V = Vec<isa>;
  const V magic = V::set(12582912.0f), one = V::set(1.0f);
  const V nearest = (x + magic) - magic;
  const V down = select(x < nearest, nearest - one, nearest);
  return select(draw < x - down, down + one, down);
}

// v is overwritten.
template <Isa isa>
inline float encode_v(float* v, const std::uint32_t* draws, std::uint8_t* codes) {
  using V = Vec<isa>;
  const V largest = V::set(__FLT_MAX__), top = V::set(255.0f);
  for (std::int64_t i = 0; i < block_size; i += 16) sqrt(min(V::load(v + i), largest)).store(v + i);
  const float most = largest_of<isa>(v, [](V x) { return x; });
  const bool zeros = most < 0x1p-63f;
  const float scale = zeros ? 0 : most / 65025.0f;
  const V inverse = V::set(zeros ? 0 : 1 / scale);
  float draw[block_size];
  for (std::int64_t i = 0; i < block_size; ++i)
    draw[i] = static_cast<float>(static_cast<std::int32_t>(draws[i] & 0xffffu)) * 0x1p-16f;
  for (std::int64_t i = 0; i < block_size; i += 16) {
    const V code = sqrt(V::load(v + i) * inverse);
    min(whole_at_random(code, V::load(draw + i)), top).store(v + i);
  }
  for (std::int64_t i = 0; i < block_size; ++i)
    codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(v[i]));
  return scale;
}

template <Isa isa>
inline void decode_v(const std::uint8_t* codes, float scale, float* kept, float* read) {
  const float read_scale = scale * (1 + 0x1p-20f);
  for (std::int64_t i = 0; i < block_size; ++i) {
    const std::int32_t code = codes[i], next = code + 1;
    const float root = static_cast<float>(code * code) * scale;
    const float above = static_cast<float>(next * next) * read_scale;
    kept[i] = root * root;
    read[i] = above * above;
  }
}

// x = the whole numbers of the scale, which is returned, that int8 makes of it.
template <Isa isa>
inline float encode_int8(float* x, const std::uint32_t* draws) {
  using V = Vec<isa>;
  V spoiled = V::zero();  // x * 0 is NaN for what is not finite
  for (std::int64_t i = 0; i < block_size; i += 16) spoiled = spoiled + V::load(x + i) * V::zero();
  const float spoil = reduce_add(spoiled);
  const float absmax = largest_of<isa>(x, [](V y) { return abs(y); });
  const bool zeros = absmax < 0x1p-100f;
  const bool finite = spoil == 0;
  const V inverse = V::set(zeros ? 0 : 127.0f / absmax), top = V::set(127.0f);
  const V bottom = V::set(-127.0f);
  float draw[block_size];
  for (std::int64_t i = 0; i < block_size; ++i)
    draw[i] = static_cast<float>(static_cast<std::int32_t>(draws[i] >> 8)) * 0x1p-24f;
  for (std::int64_t i = 0; i < block_size; i += 16) {
    const V steps = max(min(V::load(x + i) * inverse, top), bottom);
    const V whole = whole_at_random(steps, V::load(draw + i));
    (finite ? whole : V::zero()).store(x + i);
  }
  return !finite ? __builtin_nanf("") : zeros ? 0 : absmax / 127.0f;
}

// x *= scale.
template <Isa isa>
inline void scale_block(float* x, float scale) {
  const Vec<isa> by = Vec<isa>::set(scale);
  for (std::int64_t i = 0; i < block_size; i += 16) (Vec<isa>::load(x + i) * by).store(x + i);
}

}  // namespace sluice::kernel
