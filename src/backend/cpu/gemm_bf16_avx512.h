// What the three AVX-512 files of bf16 products share: moves that are compiled once, in
// gemm_bf16_avx512.cpp, and a register transpose that each compiles for itself.
#pragma once

#if defined(__x86_64__) && defined(__AVX512BW__)

#include <immintrin.h>

#include "backend/cpu/gemm_bf16_kernel.h"

namespace sluice {

void avx512_interleave_bf16(const Half* src, std::int64_t ld, std::int64_t k, std::int64_t columns,
                            int width, std::int64_t stride, Half* dst);
void avx512_transpose_bf16(const Half* src, std::int64_t ld, std::int64_t k, int columns, int width,
                           Half* dst);
void avx512_interleave_past_bf16(const Half* src, std::int64_t ld, std::int64_t k,
                                 std::int64_t columns, int width, std::int64_t stride, Half* dst);
void avx512_transpose_past_bf16(const Half* src, std::int64_t ld, std::int64_t k, int columns,
                                int width, Half* dst);
void avx512_round_bf16(const float* from, std::int64_t count, Half* to);

// Sixteen lines of 16 words become sixteen columns, in registers. (GCC 12 takes the unmasked
// intrinsics for reads of an uninitialised register; it drops a full mask.)
[[gnu::always_inline]] static inline void transpose_words(__m512i (&x)[16]) {
  __m512i y[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    y[2 * i] = _mm512_maskz_unpacklo_epi32(0xffff, x[2 * i], x[2 * i + 1]);
    y[2 * i + 1] = _mm512_maskz_unpackhi_epi32(0xffff, x[2 * i], x[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    x[4 * i] = _mm512_maskz_unpacklo_epi64(0xff, y[4 * i], y[4 * i + 2]);
    x[4 * i + 1] = _mm512_maskz_unpackhi_epi64(0xff, y[4 * i], y[4 * i + 2]);
    x[4 * i + 2] = _mm512_maskz_unpacklo_epi64(0xff, y[4 * i + 1], y[4 * i + 3]);
    x[4 * i + 3] = _mm512_maskz_unpackhi_epi64(0xff, y[4 * i + 1], y[4 * i + 3]);
  }
  // x[4i + j]: lines 4i … 4i+3 of columns j, 4 + j, 8 + j, 12 + j.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i low01 = _mm512_maskz_shuffle_i32x4(0xffff, x[j], x[4 + j], 0x44);
    const __m512i high01 = _mm512_maskz_shuffle_i32x4(0xffff, x[j], x[4 + j], 0xee);
    const __m512i low23 = _mm512_maskz_shuffle_i32x4(0xffff, x[8 + j], x[12 + j], 0x44);
    const __m512i high23 = _mm512_maskz_shuffle_i32x4(0xffff, x[8 + j], x[12 + j], 0xee);
    y[j] = _mm512_maskz_shuffle_i32x4(0xffff, low01, low23, 0x88);
    y[4 + j] = _mm512_maskz_shuffle_i32x4(0xffff, low01, low23, 0xdd);
    y[8 + j] = _mm512_maskz_shuffle_i32x4(0xffff, high01, high23, 0x88);
    y[12 + j] = _mm512_maskz_shuffle_i32x4(0xffff, high01, high23, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = y[i];
}

}  // namespace sluice

#endif
