// AMX tiles: a tile register holds 16 lines of 64 bytes, and one instruction multiplies 16 rows of
// A, 32 values of k long, by 16 columns of B. Two by two sums use four tiles of operands for four
// products of 16 cycles each: 64 bytes a cycle, which the first two levels of cache must deliver.
//
// A lies as tiles of 1 KiB, [16 rows][16 words], one after the other in k, and the upper 16 rows of
// a group after the lower ones. A panel of B is a row of such tiles, [16 words of k][16 columns],
// as it is packed.
#if defined(__x86_64__)

#include "backend/cpu/gemm_bf16_avx512.h"

namespace sluice {
namespace {

constexpr int tile_words = 256;

struct alignas(64) Config {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t line_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Config) == 64);
constexpr Config
    config;  // not on the stack: the intrinsic does not tell the compiler what it reads

void begin() { _tile_loadconfig(&config); }

void end() { _tile_release(); }

// One step of 32 values of k for all sums of the tile.
template <int halves, int panels>
void step(const float* a_low, const float* a_high, const float* b_low, const float* b_high) {
  _tile_loadd(4, a_low, 64);
  _tile_loadd(6, b_low, 64);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (panels == 2) {
    _tile_loadd(7, b_high, 64);
    _tile_dpbf16ps(1, 4, 7);
  }
  if constexpr (halves == 2) {
    _tile_loadd(5, a_high, 64);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (panels == 2) _tile_dpbf16ps(3, 5, 7);
  }
}

// The last tile of a panel that ends within it, filled up with zeros: what follows is not its own.
void copy_rest(const float* panel, std::int64_t words, float* dst) {
  for (std::int64_t w = 0; w < 16; ++w) {
    const __m512 line = w < words ? _mm512_loadu_ps(panel + w * 16) : _mm512_setzero_ps();
    _mm512_store_ps(dst + w * 16, line);
  }
}

template <int halves, int panels>
void run(const GemmTile& t, int rows) {
  alignas(64) float sum[4 * tile_words];
  const std::int64_t whole = t.k / 16;
  const std::int64_t blocks = (t.k + 15) / 16;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const float* a = t.a;
  const float* b = t.b;
  for (std::int64_t i = 0; i < whole; ++i, a += tile_words, b += tile_words) {
    step<halves, panels>(a, a + blocks * tile_words, b, b + t.panel_stride);
  }
  if (blocks > whole) {
    alignas(64) float rest[2 * tile_words];
    copy_rest(b, t.k % 16, rest);
    if (panels == 2) copy_rest(b + t.panel_stride, t.k % 16, rest + tile_words);
    asm volatile("" : : "r"(rest) : "memory");  // tile loads do not say that they read memory
    step<halves, panels>(a, a + blocks * tile_words, rest, rest + tile_words);
  }
  _tile_stored(0, sum, 128);
  if constexpr (panels == 2) _tile_stored(1, sum + 16, 128);
  if constexpr (halves == 2) _tile_stored(2, sum + 2 * tile_words, 128);
  if constexpr (halves == 2 && panels == 2) _tile_stored(3, sum + 2 * tile_words + 16, 128);
  const __m512 alpha = _mm512_set1_ps(t.alpha);
  const __mmask16 last = static_cast<__mmask16>(0xffffu >> (16 * panels - t.columns));
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) {
      const __mmask16 mask = p + 1 < panels ? __mmask16{0xffff} : last;
      const __m512 start = t.start == nullptr
                               ? _mm512_setzero_ps()
                               : _mm512_maskz_loadu_ps(mask, t.start + r * t.start_ld + 16 * p);
      _mm512_mask_storeu_ps(t.c + r * t.ldc + 16 * p, mask,
                            _mm512_fmadd_ps(alpha, _mm512_load_ps(sum + r * 32 + p * 16), start));
    }
  }
}

void tile(const GemmTile& t, int rows, int panels) {
  if (rows > 16) return panels == 2 ? run<2, 2>(t, rows) : run<2, 1>(t, rows);
  return panels == 2 ? run<1, 2>(t, rows) : run<1, 1>(t, rows);
}

void tiles_of_rows(const Half* src, std::int64_t ld, std::int64_t k, int rows, Half* dst) {
  const int padded = (rows + 15) / 16 * 16;
  for (int first = 0; first < padded; first += 16) {
    for (std::int64_t i = 0; i < k; i += 32) {
      const __mmask32 mask = k - i < 32 ? 0xffffffffu >> (32 - (k - i)) : 0xffffffffu;
      for (int r = first; r < first + 16; ++r, dst += 32) {
        if (r < rows) __builtin_prefetch(src + r * ld + i + 128);
        const __m512i line =
            r < rows ? _mm512_maskz_loadu_epi16(mask, src + r * ld + i) : _mm512_setzero_si512();
        _mm512_storeu_si512(dst, line);
      }
    }
  }
}

// The panels are 16 wide, of k rounded up to 32 values each; what lies after k is not yet zero.
void tiles_of_panels(Half* panels, std::int64_t k, int rows) {
  const int halves = (rows + 15) / 16;
  for (int half = 0; half < halves; ++half) {
    for (std::int64_t i = 0; i < k; i += 32, panels += 2 * tile_words) {
      const std::int64_t words = k - i < 32 ? (k - i + 1) / 2 : 16;
      __m512i x[16];
      for (int w = 0; w < 16; ++w) {
        x[w] = w < words ? _mm512_loadu_si512(panels + w * 32) : _mm512_setzero_si512();
      }
      transpose_words(x);
      for (int r = 0; r < 16; ++r) _mm512_storeu_si512(panels + r * 32, x[r]);
    }
  }
}

}  // namespace

// clang-format off
const Bf16Kernel amx_gemm_bf16 = {
    .block_k = 1024,
    .rows = 32,
    .group = 16,
    .panels = {0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
               2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2},
    .tile = tile,
    .begin = begin,
    .end = end,
    .interleave = avx512_interleave_bf16,
    .transpose = avx512_transpose_bf16,
    .interleave_past = avx512_interleave_past_bf16,
    .transpose_past = avx512_transpose_past_bf16,
    .tiles_of_rows = tiles_of_rows,
    .tiles_of_panels = tiles_of_panels,
    .widen = nullptr,
    .round = avx512_round_bf16,
};
// clang-format on

}  // namespace sluice

#endif
