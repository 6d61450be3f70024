// gelu_bf16.h over memory: kernels of StreamKernels<bf16> and RoundedGelu in AVX-512.
//
// The even numbers of a load go to one register, the odd ones to the next, because the upper half
// of a word is a bf16 already. Limit: the arithmetic.
//
// Only for files compiled with AVX-512; the names are of no other instruction set (see vec.h).
#pragma once

#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/gelu_bf16.h"

namespace sluice::gelu_avx512 {

// The masks of the first n of 32, or of 16, numbers.
inline __mmask32 first(std::int64_t n) {
  if (n >= 32) return 0xffffffff;
  return n <= 0 ? 0 : (__mmask32{1} << n) - 1;
}

// Where 128 numbers lie: four lines of 32 numbers, `ld` apart, and which of them there are.
struct Lines {
  std::int64_t ld;
  __mmask32 there[4];
  // n numbers, of which the 128 or so at `begin` are next.
  static Lines of_row(std::int64_t n, std::int64_t begin) {
    n -= begin;
    return {32, {first(n), first(n - 32), first(n - 64), first(n - 96)}};
  }
  // `columns` numbers of each row.
  static Lines of_rows(std::int64_t rows, std::int64_t columns, std::int64_t ld) {
    const __mmask32 some = first(columns), none = 0;
    return {ld,
            {rows > 0 ? some : none, rows > 1 ? some : none, rows > 2 ? some : none,
             rows > 3 ? some : none}};
  }
};

inline __m512 even(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(all, pairs, 16));
}
inline __m512 odd(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, bits(-0x10000)));
}

// The even ones of a line and the odd ones, line after line.
inline Numbers load(const bf16* p, const Lines& lines) {
  const __m512i x0 = _mm512_maskz_loadu_epi16(lines.there[0], p);
  const __m512i x1 = _mm512_maskz_loadu_epi16(lines.there[1], p + lines.ld);
  const __m512i x2 = _mm512_maskz_loadu_epi16(lines.there[2], p + 2 * lines.ld);
  const __m512i x3 = _mm512_maskz_loadu_epi16(lines.there[3], p + 3 * lines.ld);
  return {even(x0), odd(x0), even(x1), odd(x1), even(x2), odd(x2), even(x3), odd(x3)};
}

// The even ones (`from` 0) or the odd ones (1) of the 32 numbers at p.
inline __m512 every_second(const float* p, __mmask32 there, int from) {
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there), p);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there >> 16), p + 16);
  const __m512i evens =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_maskz_permutex2var_ps(all, low, _mm512_add_epi32(evens, bits(from)), high);
}
inline Numbers load(const float* p, const Lines& lines) {
  const float* const q[] = {p, p + lines.ld, p + 2 * lines.ld, p + 3 * lines.ld};
  const __mmask32(&there)[4] = lines.there;
  return {every_second(q[0], there[0], 0), every_second(q[0], there[0], 1),
          every_second(q[1], there[1], 0), every_second(q[1], there[1], 1),
          every_second(q[2], there[2], 0), every_second(q[2], there[2], 1),
          every_second(q[3], there[3], 0), every_second(q[3], there[3], 1)};
}

// x to the nearest bf16, ties to even, as Vec::rounded; the lower halves are anything. A NaN needs
// no care if it comes from bf16 or is the processor's own: no lower bits to carry.
inline __m512 rounded(__m512 x) {
  const __m512i u = _mm512_castps_si512(x);
  const __m512i r = _mm512_add_epi32(u, bits(0x7fff));
  const __mmask16 odd = _mm512_test_epi32_mask(u, bits(0x10000));
  return _mm512_castsi512_ps(_mm512_mask_add_epi32(r, odd, u, bits(0x8000)));
}
// The same of any x, as a float32.
inline __m512 as_bf16(__m512 x) {
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i r = _mm512_castps_si512(rounded(x));
  const __m512i whole = _mm512_mask_or_epi32(r, nan, _mm512_castps_si512(x), bits(0x400000));
  return _mm512_castsi512_ps(_mm512_and_si512(whole, bits(-0x10000)));
}

inline __m512i upper_halves(__m512 even, __m512 odd) {
  const __m512i low = _mm512_maskz_srli_epi32(all, _mm512_castps_si512(even), 16);
  return _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_castps_si512(odd));
}
// REQUIRES rounded numbers.
inline void store(bf16* p, const Lines& lines, const Numbers& x) {
  const std::int64_t ld = lines.ld;
  _mm512_mask_storeu_epi16(p, lines.there[0], upper_halves(x.r[0], x.r[1]));
  _mm512_mask_storeu_epi16(p + ld, lines.there[1], upper_halves(x.r[2], x.r[3]));
  _mm512_mask_storeu_epi16(p + 2 * ld, lines.there[2], upper_halves(x.r[4], x.r[5]));
  _mm512_mask_storeu_epi16(p + 3 * ld, lines.there[3], upper_halves(x.r[6], x.r[7]));
}

inline Numbers rounded_product(const Numbers& x, const Numbers& y) {
  return each([](__m512 u, __m512 v) { return rounded(_mm512_mul_ps(u, v)); }, x, y);
}

template <Numbers (*f)(const Numbers&)>
void gelu(const bf16* x, bf16* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 128) {
    const Lines lines = Lines::of_row(n, i);
    store(y + i, lines, each(rounded, f(load(x + i, lines))));
  }
}

template <Numbers (*slope)(const Numbers&)>
void gelu_grad(const bf16* x, const bf16* dy, bf16* dx, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 128) {
    const Lines lines = Lines::of_row(n, i);
    const Numbers s = slope(load(x + i, lines));
    store(dx + i, lines, rounded_product(load(dy + i, lines), s));
  }
}

// body(offset in the part, lines of the part, lines of its bf16), 4 rows of 32 numbers at a time.
template <class Body>
inline void for_lines_of(const ProductPart& part, Body body) {
  for (std::int64_t i = 0; i < part.rows; i += 4) {
    for (std::int64_t j = 0; j < part.columns; j += 32) {
      const std::int64_t rows = part.rows - i, columns = part.columns - j;
      body(i * part.from_ld + j, i * part.ld + j, Lines::of_rows(rows, columns, part.from_ld),
           Lines::of_rows(rows, columns, part.ld));
    }
  }
}

// These two round in registers: numbers that were stored by halves a moment ago are slow to load.
// They ask for the rows that follow: each lies in a page of its own, where no hardware prefetcher
// follows.
template <Numbers (*f)(const Numbers&)>
void round_gelu(const ProductPart& x, bf16* h, bf16* y) {
  for_lines_of(x, [&](std::int64_t from, std::int64_t to, const Lines& lines, const Lines& halves) {
    for (std::int64_t i = 4; i < 8; ++i) __builtin_prefetch(h + to + i * x.ld, 1, 3);
    for (std::int64_t i = 4; i < 8; ++i) __builtin_prefetch(y + to + i * x.ld, 1, 3);
    const Numbers v = each(as_bf16, load(x.from + from, lines));
    store(h + to, halves, v);
    store(y + to, halves, each(rounded, f(v)));
  });
}

template <Numbers (*slope)(const Numbers&)>
void round_gelu_grad(const ProductPart& dy, const bf16* x, bf16* dx) {
  for_lines_of(
      dy, [&](std::int64_t from, std::int64_t to, const Lines& lines, const Lines& halves) {
        for (std::int64_t i = 4; i < 8; ++i) __builtin_prefetch(x + to + i * dy.ld, 0, 3);
        for (std::int64_t i = 4; i < 8; ++i) __builtin_prefetch(dx + to + i * dy.ld, 1, 3);
        const Numbers s = slope(load(x + to, halves));
        store(dx + to, halves, rounded_product(each(as_bf16, load(dy.from + from, lines)), s));
      });
}

}  // namespace sluice::gelu_avx512
