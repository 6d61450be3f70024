// Vec<Isa::avx2>: two ymm registers. Contract in vec.h. Empty unless compiled with AVX2 and FMA.
#pragma once

#include <cstdint>

#include "backend/cpu/isa.h"
#include "core/dtype.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

namespace sluice {

template <Isa isa>
struct Vec;

template <>
struct Vec<Isa::avx2> {
  struct Mask {
    __m256 a, b;
  };
  static constexpr int lanes = 16;
  __m256 a, b;

  static Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Vec load(const float* p, std::int64_t n) {
    return {_mm256_maskload_ps(p, first(n)), _mm256_maskload_ps(p + 8, first(n - 8))};
  }
  static Vec set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Vec zero() { return set(0.0f); }
  static Vec iota() {
    return {_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_ps(8, 9, 10, 11, 12, 13, 14, 15)};
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, a);
    _mm256_storeu_ps(p + 8, b);
  }
  void store(float* p, std::int64_t n) const {
    _mm256_maskstore_ps(p, first(n), a);
    _mm256_maskstore_ps(p + 8, first(n - 8), b);
  }
  static Vec load(const bf16* p) {
    return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec load(const bf16* p, std::int64_t n) {
    __m256i halves = _mm256_setzero_si256();
    __builtin_memcpy(&halves, p, static_cast<std::size_t>(n) * sizeof(bf16));
    return widened(halves);
  }
  void store(bf16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded(*this)); }
  void store(bf16* p, std::int64_t n) const {
    const __m256i halves = rounded(*this);
    __builtin_memcpy(static_cast<void*>(p), &halves, static_cast<std::size_t>(n) * sizeof(bf16));
  }
  static Vec widened(__m256i halves) {
    return {widened(_mm256_castsi256_si128(halves)), widened(_mm256_extracti128_si256(halves, 1))};
  }
  static __m256i rounded(Vec x) {
    const __m256i mixed = _mm256_packus_epi32(rounded(x.a), rounded(x.b));  // a0 b0 a1 b1, fours
    return _mm256_permute4x64_epi64(mixed, 0xd8);
  }
  static __m256 widened(__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static __m256i rounded(__m256 x) {
    const __m256i u = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i nearest = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(nearest, quiet, nan), 16);
  }
  // Lanes i < n of eight.
  static __m256i first(std::int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  friend Vec operator+(Vec x, Vec y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  friend Vec operator-(Vec x, Vec y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  friend Vec operator*(Vec x, Vec y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  friend Vec operator/(Vec x, Vec y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  friend Vec fma(Vec x, Vec y, Vec z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  friend Vec max(Vec x, Vec y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  friend Vec min(Vec x, Vec y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  friend Vec sqrt(Vec x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
  friend Vec abs(Vec x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
  }
  friend Vec copy_sign(Vec size, Vec sign) {
    const __m256 top = _mm256_set1_ps(-0.0f);
    const Vec bare = abs(size);
    return {_mm256_or_ps(bare.a, _mm256_and_ps(top, sign.a)),
            _mm256_or_ps(bare.b, _mm256_and_ps(top, sign.b))};
  }
  friend Mask operator<(Vec x, Vec y) {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
  }
  friend Mask operator<=(Vec x, Vec y) {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)};
  }
  friend Mask operator&(Mask x, Mask y) {
    return {_mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b)};
  }
  friend Vec select(Mask mask, Vec yes, Vec no) {
    return {_mm256_blendv_ps(no.a, yes.a, mask.a), _mm256_blendv_ps(no.b, yes.b, mask.b)};
  }
  friend Vec swap_pairs(Vec x) {
    return {_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1)};
  }
  friend Vec pow2(Vec n) { return {pow2(n.a), pow2(n.b)}; }
  static __m256 pow2(__m256 n) {
    const __m256i bits = _mm256_castps_si256(_mm256_add_ps(n, _mm256_set1_ps(12582912.0f)));
    const __m256i exponent = _mm256_add_epi32(bits, _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  friend float reduce_add(Vec x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    __m128 f = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    f = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_add_ss(f, _mm_movehdup_ps(f)));
  }
  friend float reduce_max(Vec x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    __m128 f = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    f = _mm_max_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_max_ss(f, _mm_movehdup_ps(f)));
  }
};

}  // namespace sluice
#endif
