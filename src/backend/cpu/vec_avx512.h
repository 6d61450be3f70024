// Vec<Isa::avx512>: one zmm register. Contract in vec.h. Empty unless compiled with AVX-512 F, BW,
// VL, DQ.
#pragma once

#include <cstdint>

#include "backend/cpu/isa.h"
#include "core/dtype.h"

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
  static Vec load(const bf16* p) {
    return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec load(const bf16* p, std::int64_t n) {
    return widened(_mm256_maskz_loadu_epi16(first(n), p));
  }
  void store(bf16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded(v)); }
  void store(bf16* p, std::int64_t n) const { _mm256_mask_storeu_epi16(p, first(n), rounded(v)); }
  // Sixteen halves to the upper halves of words, and back: one permutation each.
  static Vec widened(__m256i halves) {
    const Halves from = {0, 0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,
                         0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
    return {_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(
        0xaaaaaaaa, reinterpret_cast<__m512i>(from), _mm512_castsi256_si512(halves)))};
  }
  // Not vcvtneps2bf16, which takes denormals for 0. To nearest: add half a unit less the last bit
  // of what stays; the carry rounds up.
  static __m256i rounded(__m512 x) {
    const __m512i u = _mm512_castps_si512(x);
    const __mmask16 odd = _mm512_test_epi32_mask(u, set_bits(0x10000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512i r = _mm512_add_epi32(u, set_bits(0x7fff));
    r = _mm512_mask_add_epi32(r, odd, u, set_bits(0x8000));
    r = _mm512_mask_or_epi32(r, nan, u, set_bits(0x400000));
    const Halves from = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
    const __m512i halves =
        _mm512_maskz_permutexvar_epi16(0xffffffff, reinterpret_cast<__m512i>(from), r);
    return _mm512_maskz_extracti64x4_epi64(0xff, halves, 0);
  }
  using Halves = short __attribute__((vector_size(64)));
  static __m512i set_bits(int x) { return _mm512_set1_epi32(x); }
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
  friend Vec swap_pairs(Vec x) { return {_mm512_maskz_permute_ps(0xffff, x.v, 0xb1)}; }
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
