// Products of attention's tiles out of pairs of bf16: C[m, n] = turn · C + A · B in float32, with
// AVX512_BF16; and what of the AVX-512 kernels serves here too. Only the files of AVX-512
// include this.
//
// A word is two bf16 of neighbouring depth. A is read one word at a time where it lies: rows of
// keys, values and scores are words already. B lies in panels of 16 columns, [depth / 2][16] words.
// For one element the pairs are added in ascending depth, whatever the tile.
#pragma once

#include "backend/cpu/gemm_bf16_avx512.h"
#include "backend/cpu/ops/attention_kernel.h"

namespace sluice {

void avx512_draw_dropout(const AttentionDropout& dropout, std::int64_t j0, std::int64_t visible,
                         std::int64_t queries, float* rows, float* keep);
void avx512_attention_join(const AttentionParts<Half>& all);

// attention_decode_avx512bf16.cpp
void avx512_bf16_attention_decode(const AttentionDecode<Half>& d, float* scratch);

#if defined(__AVX512BF16__)

// eˣ for x <= 1 or so within 1e-6; 0 below -104; NaN stays. Degree 5 of 2ʳ, |r| <= 1/2.
static inline __m512 exp_of(__m512 x) {
  const __m512 y = _mm512_maskz_max_ps(0xffff, _mm512_set1_ps(-150.0f), x);
  const __m512 t = _mm512_mul_ps(y, _mm512_set1_ps(1.44269504f));
  const __m512 n = _mm512_maskz_roundscale_ps(0xffff, t, _MM_FROUND_TO_NEAREST_INT);
  const __m512 r = _mm512_sub_ps(t, n);
  __m512 p = _mm512_set1_ps(1.326697039e-03f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.675459746e-03f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.550742616e-02f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402212175e-01f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931469492e-01f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.000000071e+00f));
  return _mm512_maskz_scalef_ps(0xffff, p, n);
}

struct DotProduct {
  std::int64_t m, panels, depth;  // rows, panels of 16 columns, words
  const Half* a;                  // word (i, k) at a + 2 * (i * a_row + k * a_step)
  std::int64_t a_row, a_step;
  const Half* b;  // panels, b_panel words apart
  std::int64_t b_panel;
  float* c;  // row i at c + i * c_row, its panels side by side
  std::int64_t c_row;
  bool add = false;  // false: C = alpha · A · B
  float alpha = 1.0f;
  const float* turn = nullptr;  // one per row; null: ones

  void run() const {
    std::int64_t p = 0;
    for (; p + 4 <= panels; p += 4) columns<4, 6>(p);
    if (p + 3 == panels) return columns<3, 8>(p);
    if (p + 2 == panels) return columns<2, 8>(p);
    if (p + 1 == panels) columns<1, 16>(p);
  }

 private:
  // Tall enough that twelve sums or more are on their way: two pipes of six stages.
  template <int wide, int tall>
  void columns(std::int64_t p) const {
    std::int64_t i = 0;
    for (; i + tall <= m; i += tall) tile<tall, wide>(i, p);
    if constexpr (tall > 8)
      if (i + 8 <= m) tile<8, wide>(i, p), i += 8;
    if (i + 4 <= m) tile<4, wide>(i, p), i += 4;
    if (i + 2 <= m) tile<2, wide>(i, p), i += 2;
    if (i < m) tile<1, wide>(i, p);
  }

  template <int rows, int wide>
  void tile(std::int64_t i, std::int64_t p) const {
    __m512 sum[rows][wide];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int q = 0; q < wide; ++q) sum[r][q] = _mm512_setzero_ps();
    }
    const Half* left = a + 2 * i * a_row;
    const Half* right = b + 2 * p * b_panel;
    for (std::int64_t k = 0; k < depth; ++k, left += 2 * a_step, right += 32) {
      __m512bh line[wide];
#pragma GCC unroll 4
      for (int q = 0; q < wide; ++q)
        line[q] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(right + 2 * q * b_panel));
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        int word;
        __builtin_memcpy(&word, left + 2 * r * a_row, 4);
        const auto value = reinterpret_cast<__m512bh>(_mm512_set1_epi32(word));
#pragma GCC unroll 4
        for (int q = 0; q < wide; ++q) sum[r][q] = _mm512_dpbf16_ps(sum[r][q], line[q], value);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      float* const to = c + (i + r) * c_row + p * 16;
      const __m512 factor = _mm512_set1_ps(!add ? alpha : turn == nullptr ? 1.0f : turn[i + r]);
#pragma GCC unroll 4
      for (int q = 0; q < wide; ++q) {
        const __m512 result = add ? _mm512_fmadd_ps(factor, _mm512_loadu_ps(to + 16 * q), sum[r][q])
                                  : _mm512_mul_ps(factor, sum[r][q]);
        _mm512_storeu_ps(to + 16 * q, result);
      }
    }
  }
};

#endif

}  // namespace sluice
