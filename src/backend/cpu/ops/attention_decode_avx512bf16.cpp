// The decoding of one token over a bf16 cache in AVX512_BF16: as in attention_decode.h each row of
// the cache is read once, in the order in which it lies; limit = those bytes over the memory
// bandwidth. Scores take pairs of bf16, 16 keys at a time, and are exact but for float32 sums;
// values are widened, probabilities stay float32. About 16 instructions per key, head and 64
// features, a third of what the bandwidth of one core leaves time for.
#include "backend/cpu/ops/attention_dot.h"
#include "backend/cpu/vec.h"

namespace sluice {
namespace {

constexpr std::int64_t tile = attention_tile;
constexpr std::int64_t block = 16;  // keys

__mmask32 first_halves(std::int64_t n) {
  return n >= 32 ? 0xffffffffu : (1u << static_cast<unsigned>(n)) - 1u;
}

// 32 numbers, or the first n of them.
template <bool whole>
__m512bh load_words(const Half* from, std::int64_t n) {
  if constexpr (whole) return reinterpret_cast<__m512bh>(_mm512_loadu_si512(from));
  return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(first_halves(n), from));
}

// Lane i: the sum of x[i].
__m512 sums_of(const __m512 (&x)[16]) {
  __m512 a[8], b[4], c[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    a[i] = _mm512_add_ps(_mm512_maskz_unpacklo_ps(0xffff, x[2 * i], x[2 * i + 1]),
                         _mm512_maskz_unpackhi_ps(0xffff, x[2 * i], x[2 * i + 1]));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d low = _mm512_castps_pd(a[2 * i]), high = _mm512_castps_pd(a[2 * i + 1]);
    b[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_maskz_unpacklo_pd(0xff, low, high)),
                         _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(0xff, low, high)));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    c[i] = _mm512_add_ps(_mm512_maskz_shuffle_f32x4(0xffff, b[2 * i], b[2 * i + 1], 0x88),
                         _mm512_maskz_shuffle_f32x4(0xffff, b[2 * i], b[2 * i + 1], 0xdd));
  return _mm512_add_ps(_mm512_maskz_shuffle_f32x4(0xffff, c[0], c[1], 0x88),
                       _mm512_maskz_shuffle_f32x4(0xffff, c[0], c[1], 0xdd));
}

// The heads' pieces of 16 rows are apart in memory, so that the hardware sees no stream: with each
// piece the same one of the next 16 rows is asked for.
void fetch(const Half* piece) { _mm_prefetch(reinterpret_cast<const char*>(piece), _MM_HINT_T0); }

// s[n][j] = scale · q[n] · k[j, n / group] for `keys` <= 16 keys, -inf behind them.
template <bool whole>
void scores(const AttentionDecode<Half>& d, const Half* k, std::int64_t keys, const Half* next,
            float* s) {
  std::int64_t at[16];  // rows behind the last one are the last one again
  for (std::int64_t j = 0; j < 16; ++j) at[j] = (j < keys ? j : keys - 1) * d.stride;
  const auto seen = static_cast<__mmask16>(0xffffu >> (16 - keys));
  for (std::int64_t n = 0; n < d.heads; ++n) {
    const Half* const row = k + n / d.group * d.size;
    const Half* const q = d.q + n * d.size;
    const Half* const later = next + n / d.group * d.size;
    __m512 dot[16];
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) dot[j] = _mm512_setzero_ps();
    for (std::int64_t h = 0; h < d.size; h += 32) {
      const __m512bh query = load_words<whole>(q + h, d.size - h);
#pragma GCC unroll 16
      for (int j = 0; j < 16; ++j) {
        fetch(later + at[j] + h);
        dot[j] = _mm512_dpbf16_ps(dot[j], query, load_words<whole>(row + at[j] + h, d.size - h));
      }
    }
    const __m512 sums = _mm512_mul_ps(sums_of(dot), _mm512_set1_ps(d.scale));
    _mm512_storeu_ps(s + n * tile,
                     _mm512_mask_blend_ps(seen, _mm512_set1_ps(-__builtin_inff()), sums));
  }
}

// y[n] += the sum over `keys` <= 16 keys of s[n][j] * v[j, n / group]. Of 32 features y holds the
// even ones first, then the odd ones.
template <bool whole>
void values(const AttentionDecode<Half>& d, const Half* v, std::int64_t keys, const Half* next,
            const float* s, float* y, std::int64_t y_stride) {
  for (std::int64_t n = 0; n < d.heads; ++n) {
    const Half* const later = next + n / d.group * d.size;
    const Half* const row = v + n / d.group * d.size;
    for (std::int64_t h = 0; h < d.size; h += 32) {
      float* const to = y + n * y_stride + h;
      __m512 even = _mm512_loadu_ps(to), odd = _mm512_loadu_ps(to + 16);
      for (std::int64_t j = 0; j < keys; ++j) {
        const __m512 p = _mm512_set1_ps(s[n * tile + j]);
        fetch(later + j * d.stride + h);
        const auto words =
            reinterpret_cast<__m512i>(load_words<whole>(row + j * d.stride + h, d.size - h));
        even = _mm512_fmadd_ps(p, _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, words, 16)),
                               even);
        odd = _mm512_fmadd_ps(
            p, _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(-65536))), odd);
      }
      _mm512_storeu_ps(to, even);
      _mm512_storeu_ps(to + 16, odd);
    }
  }
}

// One head: s becomes exp(s - new maximum), its sum is kept, and y follows the new maximum.
void softmax(float* s, std::int64_t blocks, float* maximum, float* sum, float* y,
             std::int64_t y_stride) {
  __m512 now = _mm512_set1_ps(*maximum), part = _mm512_setzero_ps();
  for (std::int64_t j = 0; j < blocks * block; j += 16)
    now = _mm512_maskz_max_ps(0xffff, _mm512_loadu_ps(s + j), now);
  const float top = reduce_max(Vec<Isa::avx512>{now});
  for (std::int64_t j = 0; j < blocks * block; j += 16) {
    const __m512 p = exp_of(_mm512_sub_ps(_mm512_loadu_ps(s + j), _mm512_set1_ps(top)));
    _mm512_storeu_ps(s + j, p);
    part = _mm512_add_ps(part, p);
  }
  const __m512 turn = exp_of(_mm512_set1_ps(*maximum - top));
  *maximum = top;
  *sum = *sum * _mm512_cvtss_f32(turn) + reduce_add(Vec<Isa::avx512>{part});
  for (std::int64_t h = 0; h < y_stride; h += 16)
    _mm512_storeu_ps(y + h, _mm512_mul_ps(_mm512_loadu_ps(y + h), turn));
}

template <bool whole>
void decode(const AttentionDecode<Half>& d, float* scratch) {
  const std::int64_t padded = attention_padded(d.size), y_stride = (d.size + 31) / 32 * 32;
  float* const maximum = d.partial;
  float* const sum = maximum + d.heads;
  float* const s = scratch;  // [heads][64]
  float* const y = s + d.heads * tile;
  for (std::int64_t h = 0; h < block * d.stride; h += 32) fetch(d.k + h);
  for (std::int64_t n = 0; n < d.heads; ++n) maximum[n] = attention_lowest, sum[n] = 0;
  for (std::int64_t h = 0; h < d.heads * y_stride; ++h) y[h] = 0;
  for (std::int64_t j0 = 0; j0 < d.keys; j0 += tile) {
    const std::int64_t keys = d.keys - j0 < tile ? d.keys - j0 : tile;
    const Half* const k = d.k + j0 * d.stride;
    const Half* const v = d.v + j0 * d.stride;
    for (std::int64_t j = 0; j < keys; j += block) {
      const Half* const next = j + block < keys ? k + (j + block) * d.stride : v;
      scores<whole>(d, k + j * d.stride, keys - j < block ? keys - j : block, next, s + j);
    }
    for (std::int64_t n = 0; n < d.heads; ++n)
      softmax(s + n * tile, (keys + block - 1) / block, maximum + n, sum + n, y + n * y_stride,
              y_stride);
    for (std::int64_t j = 0; j < keys; j += block) {
      const Half* const next = j + block < keys ? v + (j + block) * d.stride : k + tile * d.stride;
      values<whole>(d, v + j * d.stride, keys - j < block ? keys - j : block, next, s + j, y,
                    y_stride);
    }
  }
  float* const out = sum + d.heads;
  for (std::int64_t n = 0; n < d.heads; ++n) {
    for (std::int64_t h = 0; h < padded; ++h)
      out[n * padded + h] = y[n * y_stride + h / 32 * 32 + h % 32 / 2 + h % 2 * 16];
  }
}

}  // namespace

void avx512_bf16_attention_decode(const AttentionDecode<Half>& d, float* scratch) {
  if (d.size % 32 == 0) return decode<true>(d, scratch);
  decode<false>(d, scratch);
}

}  // namespace sluice
