// AVX512_BF16 register tiles: those of float32 with words in place of floats. One instruction does
// two multiply-adds a lane and starts as often as a float32 one (Zen 5: twice a cycle).
#if defined(__x86_64__)

#include "backend/cpu/gemm_bf16_avx512.h"

namespace sluice {
namespace {

__m512bh load(const float* from) { return reinterpret_cast<__m512bh>(_mm512_loadu_ps(from)); }

__m512bh broadcast(const float* word) {
  int bits;
  __builtin_memcpy(&bits, word, 4);
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(bits));
}

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
    __m512bh line[panels];
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) line[p] = load(b + p * t.panel_stride);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const __m512bh value = broadcast(a + r);
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p) sum[r][p] = _mm512_dpbf16_ps(sum[r][p], line[p], value);
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

using Tile = GemmKernel::Tile;
// clang-format off
constexpr Tile tiles[15][5] = {
    {},
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
};
// clang-format on

void run_tile(const GemmTile& t, int rows, int panels) { tiles[rows][panels](t); }

}  // namespace

// clang-format off
const Bf16Kernel avx512_bf16_gemm_bf16 = {
    .block_k = 1024,
    .rows = 14,
    .group = 0,
    .panels = {0, 4, 4, 4, 4, 4, 4, 3, 3, 2, 2, 2, 2, 2, 2},
    .tile = run_tile,
    .begin = nullptr,
    .end = nullptr,
    .interleave = avx512_interleave_bf16,
    .transpose = avx512_transpose_bf16,
    .interleave_past = avx512_interleave_past_bf16,
    .transpose_past = avx512_transpose_past_bf16,
    .tiles_of_rows = nullptr,
    .tiles_of_panels = nullptr,
    .widen = nullptr,
    .round = avx512_round_bf16,
};
// clang-format on

}  // namespace sluice

#endif
