// Vec<Isa::avx512>: one zmm register. Contract in vec.h. Empty unless compiled with AVX-512 F and
// DQ.
#pragma once

#include <cstdint>

#include "backend/cpu/isa.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>

namespace sluice {

template <Isa isa>
struct Vec;

template <>
struct Vec<Isa::avx512> {
  struct Mask {
    __mmask16 m;
  };
  static constexpr int lanes = 16;
  __m512 v;

  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const float* p, std::int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  static Vec set(float x) { return {_mm512_set1_ps(x)}; }
  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec iota() {
    return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, std::int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  // Lanes i < n, n <= 16.
  static __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

  friend Vec operator+(Vec x, Vec y) { return {_mm512_add_ps(x.v, y.v)}; }
  friend Vec operator-(Vec x, Vec y) { return {_mm512_sub_ps(x.v, y.v)}; }
  friend Vec operator*(Vec x, Vec y) { return {_mm512_mul_ps(x.v, y.v)}; }
  friend Vec operator/(Vec x, Vec y) { return {_mm512_div_ps(x.v, y.v)}; }
  friend Vec fma(Vec x, Vec y, Vec z) { return {_mm512_fmadd_ps(x.v, y.v, z.v)}; }
  // The maskz forms: g++ 12 warns of the plain ones' undefined pass-through operand.
  friend Vec max(Vec x, Vec y) { return {_mm512_maskz_max_ps(0xffff, x.v, y.v)}; }
  friend Vec min(Vec x, Vec y) { return {_mm512_maskz_min_ps(0xffff, x.v, y.v)}; }
  friend Vec sqrt(Vec x) { return {_mm512_maskz_sqrt_ps(0xffff, x.v)}; }
  friend Vec abs(Vec x) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), x.v)}; }
  friend Vec copy_sign(Vec size, Vec sign) {
    return {_mm512_or_ps(abs(size).v, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign.v))};
  }
  friend Mask operator<(Vec x, Vec y) { return {_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ)}; }
  friend Mask operator<=(Vec x, Vec y) { return {_mm512_cmp_ps_mask(x.v, y.v, _CMP_LE_OQ)}; }
  friend Mask operator&(Mask x, Mask y) { return {static_cast<__mmask16>(x.m & y.m)}; }
  friend Vec select(Mask mask, Vec yes, Vec no) {
    return {_mm512_mask_blend_ps(mask.m, no.v, yes.v)};
  }
  friend Vec pow2(Vec n) {
    const __m512i bits = _mm512_castps_si512(_mm512_add_ps(n.v, _mm512_set1_ps(12582912.0f)));
    const __m512i exponent = _mm512_add_epi32(bits, _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, exponent, 23))};
  }
  friend float reduce_add(Vec x) {
    const __m256 eight = _mm256_add_ps(lower(x), upper(x));
    __m128 f = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    f = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_add_ss(f, _mm_movehdup_ps(f)));
  }
  friend float reduce_max(Vec x) {
    const __m256 eight = _mm256_max_ps(lower(x), upper(x));
    __m128 f = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    f = _mm_max_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_max_ss(f, _mm_movehdup_ps(f)));
  }
  static __m256 lower(Vec x) { return _mm512_maskz_extractf32x8_ps(0xff, x.v, 0); }
  static __m256 upper(Vec x) { return _mm512_maskz_extractf32x8_ps(0xff, x.v, 1); }
};

}  // namespace sluice
#endif
