// bf16 products with AVX2: the float32 register tile over widened operands.
#if defined(__x86_64__)

#include <immintrin.h>

#include "backend/cpu/gemm_bf16_kernel.h"

namespace sluice {
namespace {

void tile(const GemmTile& t, int rows, int panels) { avx2_gemm.tile[rows][panels](t); }

__m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
void store(void* to, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }

// Sixteen words of two lines of 16.
void interleave16(const Half* low, const Half* high, Half* dst) {
  const __m256i x = load(low), y = load(high);
  const __m256i even = _mm256_unpacklo_epi16(x, y), odd = _mm256_unpackhi_epi16(x, y);
  store(dst, _mm256_permute2x128_si256(even, odd, 0x20));
  store(dst + 16, _mm256_permute2x128_si256(even, odd, 0x31));
}

void interleave(const Half* src, std::int64_t ld, std::int64_t k, std::int64_t columns, int width,
                std::int64_t stride, Half* dst) {
  const std::int64_t padded = (columns + width - 1) / width * width;
  for (std::int64_t i = 0; i < k; i += 2) {
    const Half* const low = src + i * ld;
    Half* const to = dst + i * width;
    std::int64_t first = 0;
    if (width == 16 && i + 1 < k) {
      for (; first + 16 <= columns; first += 16) {
        interleave16(low + first, low + ld + first, to + first / 16 * stride * 2);
      }
    }
    for (std::int64_t part = first / width; part < padded / width; ++part) {
      for (int r = 0; r < width; ++r) {
        const std::int64_t j = part * width + r;
        Half* const word = to + (part * stride + r) * 2;
        word[0] = j < columns ? low[j] : Half{0};
        word[1] = j < columns && i + 1 < k ? low[ld + j] : Half{0};
      }
    }
  }
}

// Eight lines of eight words become eight columns.
void transpose8(const Half* src, std::int64_t ld, Half* dst) {
  __m256 x[8];
  __m256 y[8];
  for (int r = 0; r < 8; ++r) x[r] = _mm256_castsi256_ps(load(src + r * ld));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    y[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
    y[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    x[4 * i] = _mm256_shuffle_ps(y[4 * i], y[4 * i + 2], 0x44);
    x[4 * i + 1] = _mm256_shuffle_ps(y[4 * i], y[4 * i + 2], 0xee);
    x[4 * i + 2] = _mm256_shuffle_ps(y[4 * i + 1], y[4 * i + 3], 0x44);
    x[4 * i + 3] = _mm256_shuffle_ps(y[4 * i + 1], y[4 * i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    y[j] = _mm256_permute2f128_ps(x[j], x[4 + j], 0x20);
    y[4 + j] = _mm256_permute2f128_ps(x[j], x[4 + j], 0x31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) store(dst + i * 32, _mm256_castps_si256(y[i]));
}

void transpose(const Half* src, std::int64_t ld, std::int64_t k, int columns, int width,
               Half* dst) {
  std::int64_t first = 0;
  if (columns == 16 && width == 16) {
    for (; first + 16 <= k; first += 16) {
      transpose8(src + first, ld, dst + first * 16);
      transpose8(src + 8 * ld + first, ld, dst + first * 16 + 16);
    }
  }
  for (int j = 0; j < width; ++j) {
    for (std::int64_t i = first; i < k + k % 2; ++i) {
      dst[(i / 2 * width + j) * 2 + i % 2] = i < k && j < columns ? src[j * ld + i] : Half{0};
    }
  }
}

void widen(const Half* words, std::int64_t count, int width, float* dst) {
  for (std::int64_t p = 0; p < count; ++p, words += 2 * width, dst += 2 * width) {
    int j = 0;
    for (; j + 8 <= width; j += 8) {
      const __m256i x = load(words + 2 * j);
      store(dst + j, _mm256_slli_epi32(x, 16));
      store(dst + width + j, _mm256_and_si256(x, _mm256_set1_epi32(-65536)));
    }
    for (; j < width; ++j) {
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t bits = static_cast<std::uint32_t>(words[2 * j + i]) << 16;
        __builtin_memcpy(dst + i * width + j, &bits, 4);
      }
    }
  }
}

// The upper halves of eight floats, rounded, in the lower halves of the lanes.
__m256i rounded(const float* from) {
  const __m256i bits = load(from);
  const __m256i even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), even);
  const __m256 x = _mm256_castsi256_ps(bits);
  const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, _mm256_castps_si256(nan)), 16);
}

void round(const float* from, std::int64_t count, Half* to) {
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i packed = _mm256_packus_epi32(rounded(from + i), rounded(from + i + 8));
    store(to + i, _mm256_permute4x64_epi64(packed, 0xd8));
  }
  if (i == count) return;
  float rest[16] = {};
  Half result[16];
  __builtin_memcpy(rest, from + i, static_cast<std::size_t>(count - i) * 4);
  const __m256i packed = _mm256_packus_epi32(rounded(rest), rounded(rest + 8));
  store(result, _mm256_permute4x64_epi64(packed, 0xd8));
  __builtin_memcpy(to + i, result, static_cast<std::size_t>(count - i) * 2);
}

}  // namespace

const Bf16Kernel avx2_gemm_bf16 = {
    .block_k = 256,
    .rows = 6,
    .group = 0,
    .panels = {0, 4, 2, 1, 1, 1, 1},
    .tile = tile,
    .begin = nullptr,
    .end = nullptr,
    .interleave = interleave,
    .transpose = transpose,
    .interleave_past = nullptr,
    .transpose_past = nullptr,
    .tiles_of_rows = nullptr,
    .tiles_of_panels = nullptr,
    .widen = widen,
    .round = round,
};

}  // namespace sluice

#endif
