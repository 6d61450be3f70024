// bf16 products with AVX-512 that has no bf16: the float32 register tile over widened operands. The
// moves serve the sets above it too.
#if defined(__x86_64__)

#include "backend/cpu/gemm_bf16_avx512.h"

namespace sluice {
namespace {

void tile(const GemmTile& t, int rows, int panels) { avx512_gemm.tile[rows][panels](t); }

void widen(const Half* words, std::int64_t count, int width, float* dst) {
  const __mmask16 mask = static_cast<__mmask16>(0xffffu >> (16 - width));
  for (std::int64_t p = 0; p < count; ++p, words += 2 * width, dst += 2 * width) {
    const __m512i x = _mm512_maskz_loadu_epi32(mask, words);
    _mm512_mask_storeu_epi32(dst, mask, _mm512_maskz_slli_epi32(0xffff, x, 16));
    _mm512_mask_storeu_epi32(dst + width, mask, _mm512_and_si512(x, _mm512_set1_epi32(-65536)));
  }
}

// To the caches, or past them.
template <bool past>
void store_line(Half* to, __m512i line) {
  if constexpr (past) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), line);
  } else {
    _mm512_storeu_si512(to, line);
  }
}

// Two lines of 32 numbers become two lines of 16 words.
template <bool past>
void interleave32(__m512i low, __m512i high, Half* left, Half* right) {
  const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i next = _mm512_add_epi16(order, _mm512_set1_epi16(16));
  store_line<past>(left, _mm512_permutex2var_epi16(low, order, high));
  store_line<past>(right, _mm512_permutex2var_epi16(low, next, high));
}

// The upper half of each word is x to nearest, ties to even: half a unit less the last bit of what
// stays is added, and the carry rounds up.
__m512i rounded(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i half = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  const __m512i up = _mm512_mask_add_epi32(half, odd, bits, _mm512_set1_epi32(0x8000));
  return _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
}

constexpr int ahead = 32;  // lines: a group of columns is read faster than a cache answers

template <bool past>
void interleave(const Half* src, std::int64_t ld, std::int64_t k, std::int64_t columns, int width,
                std::int64_t stride, Half* dst) {
  const std::int64_t parts = (columns + width - 1) / width;
  const __mmask16 words = static_cast<__mmask16>(0xffffu >> (16 - width));
  const __mmask16 rest = static_cast<__mmask16>(words >> (parts * width - columns));
  for (std::int64_t i = 0; i < k; i += 2) {
    const Half* from = src + i * ld;
    const bool pair = i + 1 < k;
    const std::int64_t next = pair ? ld : 0;
    Half* to = dst + i * width;
    // Each line may lie in a page of its own, where no hardware prefetcher follows.
    for (std::int64_t j = 0; j < columns; j += 32) {
      __builtin_prefetch(from + ahead * ld + j);
      __builtin_prefetch(from + (ahead + 1) * ld + j);
    }
    std::int64_t part = 0;
    if (width == 16 && pair) {
      for (; part + 2 <= columns / 16; part += 2, from += 32, to += 4 * stride) {
        interleave32<past>(_mm512_loadu_si512(from), _mm512_loadu_si512(from + ld), to,
                           to + 2 * stride);
      }
    }
    for (; part < parts; ++part, from += width, to += 2 * stride) {
      const __mmask16 mask = part + 1 < parts ? words : rest;
      const __m512i low = _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_maskz_loadu_epi16(mask, from));
      const __m512i high = _mm512_maskz_cvtepu16_epi32(
          0xffff, _mm256_maskz_loadu_epi16(pair ? mask : __mmask16{0}, from + next));
      _mm512_mask_storeu_epi32(to, words,
                               _mm512_or_si512(low, _mm512_maskz_slli_epi32(0xffff, high, 16)));
    }
  }
}

template <bool past>
void transpose(const Half* src, std::int64_t ld, std::int64_t k, int columns, int width,
               Half* dst) {
  for (std::int64_t i = 0; i < k; i += 32) {
    const int count = static_cast<int>(k - i < 32 ? k - i : 32);
    const int words = (count + 1) / 2;
    const __mmask32 mask = 0xffffffffu >> (32 - count);
    __m512i x[16];
    // Past the ends of these lines, the beginnings of those that are packed next.
    const std::int64_t next = i + 128 < k ? i + 128 : columns * ld + i + 128 - k;
    for (int r = 0; r < columns; ++r) __builtin_prefetch(src + next + r * ld);
    for (int r = 0; r < 16; ++r) {
      x[r] =
          r < columns ? _mm512_maskz_loadu_epi16(mask, src + i + r * ld) : _mm512_setzero_si512();
    }
    transpose_words(x);
    // Stores overlap when width < 16, each overwriting the surplus of the one before.
    Half* const to = dst + i * width;
    for (int w = 0; w < words; ++w) store_line<past>(to + w * width * 2, x[w]);
  }
}

}  // namespace

void avx512_interleave_bf16(const Half* src, std::int64_t ld, std::int64_t k, std::int64_t columns,
                            int width, std::int64_t stride, Half* dst) {
  interleave<false>(src, ld, k, columns, width, stride, dst);
}
void avx512_transpose_bf16(const Half* src, std::int64_t ld, std::int64_t k, int columns, int width,
                           Half* dst) {
  transpose<false>(src, ld, k, columns, width, dst);
}

// Others see what went past the caches after the fence.
void avx512_interleave_past_bf16(const Half* src, std::int64_t ld, std::int64_t k,
                                 std::int64_t columns, int width, std::int64_t stride, Half* dst) {
  interleave<true>(src, ld, k, columns, width, stride, dst);
  _mm_sfence();
}
void avx512_transpose_past_bf16(const Half* src, std::int64_t ld, std::int64_t k, int columns,
                                int width, Half* dst) {
  transpose<true>(src, ld, k, columns, width, dst);
  _mm_sfence();
}

void avx512_round_bf16(const float* from, std::int64_t count, Half* to) {
  // The upper halves of two lines of words.
  const __m512i upper =
      _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27,
                       25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  std::int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m512i low = rounded(_mm512_loadu_ps(from + i));
    const __m512i high = rounded(_mm512_loadu_ps(from + i + 16));
    _mm512_storeu_si512(to + i, _mm512_permutex2var_epi16(low, upper, high));
  }
  for (; i < count; i += 16) {
    const __mmask16 mask =
        count - i < 16 ? static_cast<__mmask16>(0xffffu >> (16 - (count - i))) : __mmask16{0xffff};
    const __m512i line = rounded(_mm512_maskz_loadu_ps(mask, from + i));
    _mm512_mask_cvtepi32_storeu_epi16(to + i, mask, _mm512_maskz_srli_epi32(0xffff, line, 16));
  }
}

// clang-format off
const Bf16Kernel avx512_gemm_bf16 = {
    .block_k = 256,
    .rows = 14,
    .group = 0,
    .panels = {0, 4, 4, 4, 4, 4, 4, 3, 3, 2, 2, 2, 2, 2, 2},
    .tile = tile,
    .begin = nullptr,
    .end = nullptr,
    .interleave = avx512_interleave_bf16,
    .transpose = avx512_transpose_bf16,
    .interleave_past = avx512_interleave_past_bf16,
    .transpose_past = avx512_transpose_past_bf16,
    .tiles_of_rows = nullptr,
    .tiles_of_panels = nullptr,
    .widen = widen,
    .round = avx512_round_bf16,
};
// clang-format on

}  // namespace sluice

#endif
