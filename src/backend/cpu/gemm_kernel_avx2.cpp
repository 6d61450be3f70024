// AVX2 register tiles: a panel is two registers; 6 x 16 keeps 12 sums in 16 registers.
#if defined(__x86_64__)

#include <immintrin.h>

#include "backend/cpu/gemm_kernel.h"

namespace sluice {
namespace {

// All ones in the lanes below `count`.
__m256i lanes_below(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

template <int rows, int panels>
void tile(const GemmTile& t) {
  constexpr int halves = 2 * panels;
  __m256 sum[rows][halves];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int h = 0; h < halves; ++h) sum[r][h] = _mm256_setzero_ps();
  }
  const float* a = t.a;
  const float* b = t.b;
#pragma GCC unroll 2
  for (std::int64_t k = 0; k < t.k; ++k, a += rows, b += 16) {
    __m256 line[halves];
#pragma GCC unroll 8
    for (int h = 0; h < halves; ++h) {
      line[h] = _mm256_loadu_ps(b + h / 2 * t.panel_stride + h % 2 * 8);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const __m256 value = _mm256_broadcast_ss(a + r);
#pragma GCC unroll 8
      for (int h = 0; h < halves; ++h) sum[r][h] = _mm256_fmadd_ps(value, line[h], sum[r][h]);
    }
  }
  const __m256 alpha = _mm256_set1_ps(t.alpha);
  const bool whole = t.columns == 16 * panels;  // masked stores are slow on some processors
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int h = 0; h < halves; ++h) {
      const float* const from = t.start + r * t.start_ld + 8 * h;
      float* const to = t.c + r * t.ldc + 8 * h;
      const __m256i mask = lanes_below(t.columns - 8 * h);
      __m256 start = _mm256_setzero_ps();
      if (t.start != nullptr)
        start = whole ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, mask);
      const __m256 result = _mm256_fmadd_ps(alpha, sum[r][h], start);
      if (whole) {
        _mm256_storeu_ps(to, result);
      } else {
        _mm256_maskstore_ps(to, mask, result);
      }
    }
  }
}

// Up to eight lines of 8 become columns, in registers. Stores overlap when rows < 8.
void transpose8(const float* src, std::int64_t ld, int lines, int count, float* dst,
                std::int64_t stride) {
  const __m256i mask = lanes_below(count);
  __m256 x[8];
  __m256 y[8];
  for (int r = 0; r < 8; ++r) {
    x[r] = r < lines ? _mm256_maskload_ps(src + r * ld, mask) : _mm256_setzero_ps();
  }
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
  for (int i = 0; i < count; ++i) _mm256_storeu_ps(dst + i * stride, y[i]);
}

// In ascending order, so that each store overwrites the surplus of the one before: with more than
// eight rows the first eight columns must not be overwritten, they are stored 8 wide exactly.
void transpose(const float* src, std::int64_t ld, int rows, std::int64_t k, float* dst) {
  for (std::int64_t i = 0; i < k; i += 8) {
    const int count = static_cast<int>(k - i < 8 ? k - i : 8);
    transpose8(src + i, ld, rows < 8 ? rows : 8, count, dst + i * rows, rows);
    if (rows > 8) {
      float rest[64];
      transpose8(src + 8 * ld + i, ld, rows - 8, count, rest, 8);
      for (int j = 0; j < count; ++j) {
        for (int r = 8; r < rows; ++r) dst[(i + j) * rows + r] = rest[8 * j + r - 8];
      }
    }
  }
}

// Line by line, so that src is read in order; a fixed size makes a copy a few register moves.
template <int rows>
void copy_groups(const float* src, std::int64_t ld, std::int64_t k, std::int64_t parts,
                 std::int64_t stride, float* dst) {
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t part = 0; part < parts; ++part) {
      __builtin_memcpy(dst + part * stride + i * rows, src + i * ld + part * rows, rows * 4);
    }
  }
}

void copy(const float* src, std::int64_t ld, std::int64_t k, std::int64_t parts, int rows,
          std::int64_t stride, float* dst) {
  if (rows == 16) return copy_groups<16>(src, ld, k, parts, stride, dst);
  if (rows == 6) return copy_groups<6>(src, ld, k, parts, stride, dst);
  if (rows == 5) return copy_groups<5>(src, ld, k, parts, stride, dst);
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t part = 0; part < parts; ++part) {
      for (int r = 0; r < rows; ++r) {
        dst[part * stride + i * rows + r] = src[i * ld + part * rows + r];
      }
    }
  }
}

}  // namespace

// clang-format off
const GemmKernel avx2_gemm = {
    .rows = 6,
    .panels = {0, 4, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    .tile = {{},
             {nullptr, tile<1, 1>, tile<1, 2>, tile<1, 3>, tile<1, 4>},
             {nullptr, tile<2, 1>, tile<2, 2>},
             {nullptr, tile<3, 1>},
             {nullptr, tile<4, 1>},
             {nullptr, tile<5, 1>},
             {nullptr, tile<6, 1>},
             {}, {}, {}, {}, {}, {}, {}, {}, {}, {}},
    .transpose = transpose,
    .copy = copy,
};
// clang-format on

}  // namespace sluice

#endif
