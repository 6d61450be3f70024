// AVX-512 register tiles: up to 28 sums in 32 registers, two fused multiply-adds per cycle. A tile
// of 14 x 32 loads 16 vectors for 28 multiply-adds, within two loads per cycle.
#if defined(__x86_64__)

#include <immintrin.h>

#include "backend/cpu/gemm_kernel.h"

namespace sluice {
namespace {

template <int rows, int panels>
void tile(const GemmTile& t) {
  __m512 sum[rows][panels];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) sum[r][p] = _mm512_setzero_ps();
  }
  const float* a = t.a;
  const float* b = t.b;
  for (std::int64_t k = 0; k < t.k; ++k, a += rows, b += 16) {
    __m512 line[panels];
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) line[p] = _mm512_loadu_ps(b + p * t.panel_stride);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const __m512 value = _mm512_set1_ps(a[r]);
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p) sum[r][p] = _mm512_fmadd_ps(value, line[p], sum[r][p]);
    }
  }
  const __m512 alpha = _mm512_set1_ps(t.alpha);
  const __mmask16 last = static_cast<__mmask16>(0xffffu >> (16 * panels - t.columns));
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) {
      const __mmask16 mask = p + 1 < panels ? __mmask16{0xffff} : last;
      const __m512 start = t.start == nullptr
                               ? _mm512_setzero_ps()
                               : _mm512_maskz_loadu_ps(mask, t.start + r * t.start_ld + 16 * p);
      _mm512_mask_storeu_ps(t.c + r * t.ldc + 16 * p, mask,
                            _mm512_fmadd_ps(alpha, sum[r][p], start));
    }
  }
}

// GCC 12 takes the unmasked intrinsics for reads of an uninitialised register; it drops a full
// mask.
__m512 low_pairs(__m512 a, __m512 b) { return _mm512_maskz_unpacklo_ps(0xffff, a, b); }
__m512 high_pairs(__m512 a, __m512 b) { return _mm512_maskz_unpackhi_ps(0xffff, a, b); }
__m512 low_quads(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(0xff, _mm512_castps_pd(a), _mm512_castps_pd(b)));
}
__m512 high_quads(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(0xff, _mm512_castps_pd(a), _mm512_castps_pd(b)));
}
template <int order>
__m512 lanes(__m512 a, __m512 b) {
  return _mm512_maskz_shuffle_f32x4(0xffff, a, b, order);
}

// Sixteen lines of 16 become sixteen columns, in registers; stores overlap when rows < 16, each
// overwriting the surplus of the one before.
void transpose16(const float* src, std::int64_t ld, int rows, __mmask16 mask, int count,
                 float* dst) {
  __m512 x[16];
  __m512 y[16];
  for (int r = 0; r < 16; ++r) {
    x[r] = r < rows ? _mm512_maskz_loadu_ps(mask, src + r * ld) : _mm512_setzero_ps();
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    y[2 * i] = low_pairs(x[2 * i], x[2 * i + 1]);
    y[2 * i + 1] = high_pairs(x[2 * i], x[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    x[4 * i] = low_quads(y[4 * i], y[4 * i + 2]);
    x[4 * i + 1] = high_quads(y[4 * i], y[4 * i + 2]);
    x[4 * i + 2] = low_quads(y[4 * i + 1], y[4 * i + 3]);
    x[4 * i + 3] = high_quads(y[4 * i + 1], y[4 * i + 3]);
  }
  // x[4i + j]: lines 4i … 4i+3 of columns j, 4 + j, 8 + j, 12 + j.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 low01 = lanes<0x44>(x[j], x[4 + j]);
    const __m512 high01 = lanes<0xee>(x[j], x[4 + j]);
    const __m512 low23 = lanes<0x44>(x[8 + j], x[12 + j]);
    const __m512 high23 = lanes<0xee>(x[8 + j], x[12 + j]);
    y[j] = lanes<0x88>(low01, low23);
    y[4 + j] = lanes<0xdd>(low01, low23);
    y[8 + j] = lanes<0x88>(high01, high23);
    y[12 + j] = lanes<0xdd>(high01, high23);
  }
  for (int i = 0; i < count; ++i) _mm512_storeu_ps(dst + static_cast<std::int64_t>(i) * rows, y[i]);
}

void transpose(const float* src, std::int64_t ld, int rows, std::int64_t k, float* dst) {
  for (std::int64_t i = 0; i < k; i += 16) {
    const int count = static_cast<int>(k - i < 16 ? k - i : 16);
    const __mmask16 mask = static_cast<__mmask16>(0xffffu >> (16 - count));
    if (count == 16 && rows == 16) {
      transpose16(src + i, ld, 16, 0xffff, 16, dst + i * 16);
    } else {
      transpose16(src + i, ld, rows, mask, count, dst + i * rows);
    }
  }
}

// Line by line, so that src is read in order.
void copy(const float* src, std::int64_t ld, std::int64_t k, std::int64_t parts, int rows,
          std::int64_t stride, float* dst) {
  const __mmask16 mask = static_cast<__mmask16>(0xffffu >> (16 - rows));
  for (std::int64_t i = 0; i < k; ++i) {
    const float* from = src + i * ld;
    float* to = dst + i * rows;
    for (std::int64_t part = 0; part < parts; ++part, from += rows, to += stride) {
      _mm512_mask_storeu_ps(to, mask, _mm512_maskz_loadu_ps(mask, from));
    }
  }
}

}  // namespace

// clang-format off
const GemmKernel avx512_gemm = {
    .rows = 14,
    .panels = {0, 4, 4, 4, 4, 4, 4, 3, 3, 2, 2, 2, 2, 2, 2, 0, 0},
    .tile = {{},
             {nullptr, tile<1, 1>, tile<1, 2>, tile<1, 3>, tile<1, 4>},
             {nullptr, tile<2, 1>, tile<2, 2>, tile<2, 3>, tile<2, 4>},
             {nullptr, tile<3, 1>, tile<3, 2>, tile<3, 3>, tile<3, 4>},
             {nullptr, tile<4, 1>, tile<4, 2>, tile<4, 3>, tile<4, 4>},
             {nullptr, tile<5, 1>, tile<5, 2>, tile<5, 3>, tile<5, 4>},
             {nullptr, tile<6, 1>, tile<6, 2>, tile<6, 3>, tile<6, 4>},
             {nullptr, tile<7, 1>, tile<7, 2>, tile<7, 3>},
             {nullptr, tile<8, 1>, tile<8, 2>, tile<8, 3>},
             {nullptr, tile<9, 1>, tile<9, 2>},
             {nullptr, tile<10, 1>, tile<10, 2>},
             {nullptr, tile<11, 1>, tile<11, 2>},
             {nullptr, tile<12, 1>, tile<12, 2>},
             {nullptr, tile<13, 1>, tile<13, 2>},
             {nullptr, tile<14, 1>, tile<14, 2>},
             {}, {}},
    .transpose = transpose,
    .copy = copy,
};
// clang-format on

}  // namespace sluice

#endif
