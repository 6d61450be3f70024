// GELU and its slope of numbers stored as bf16, in AVX-512: kernels of StreamKernels<bf16>.
//
// Rounding to bf16 makes an error of up to 4e-3, so 3e-4 more before it is as good as none: that
// takes less than half of the arithmetic of the float32 kernels. With t = |x|:
//   exact  the gate Phi(-t), and D(t), the slope at -t, fall smoothly through 38 decades: log2 of
//          them is a short polynomial of t once D's zero, at 0.7518, is divided out. The rest is
//          symmetry, and no sum loses the tail: x Phi(x), Phi(t) = 1 - Phi(-t); the slope at t is
//          1 - D(t).
//   tanh   x s and s + x s (1 - s) 2u' with s = 1 / (1 + e^-2u), as in elementwise_kernel.h.
// tools/fit_gelu.py makes the coefficients.
//
// Largest relative error before the one rounding, over all 65,536 numbers, for |x| <= 4 and beyond:
//   exact 1.4e-4, 2e-2    its slope 3e-4, 4e-2: more only far out, 1e-3 at 8 and 1e-2 at 11
//   tanh  3.2e-6, 7e-6    its slope 3.1e-6, 7e-6 (6e-5 next to its zero)
// A result below 1e-36 may be 0. A NaN stays NaN; the infinities give what the formulas give: +inf
// for GELU of +inf, else NaN.
//
// 128 numbers at a time: eight chains of dependent multiply-adds keep two pipes of four stages
// busy. The even numbers of a load go to one register, the odd ones to the next, because the upper
// half of a word is a bf16 already. Limit: 12 to 16 instructions on those two pipes per 16 numbers.
//
// Only for files compiled with AVX-512; the names are of no other instruction set (see vec.h).
#pragma once

#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/vec_avx512.h"

namespace sluice::gelu_avx512 {

constexpr __mmask16 all = 0xffff;  // maskz forms: g++ 12 warns of the plain ones (vec_avx512.h)
inline __m512 set(float x) { return _mm512_set1_ps(x); }
inline __m512i bits(int x) { return _mm512_set1_epi32(x); }

// Registers whose instructions stand next to one another.
struct Numbers {
  __m512 r[8];
};

template <class F, class... X>
inline Numbers each(F f, const X&... x) {
  return {f(x.r[0]...), f(x.r[1]...), f(x.r[2]...), f(x.r[3]...),
          f(x.r[4]...), f(x.r[5]...), f(x.r[6]...), f(x.r[7]...)};
}

// c[0] is the coefficient of the highest power.
template <int n>
inline Numbers polynomial(const float (&c)[n], const Numbers& x) {
  Numbers p = each([&](__m512) { return set(c[0]); }, x);
  for (int i = 1; i < n; ++i) {
    p = each([&](__m512 sum, __m512 v) { return _mm512_fmadd_ps(sum, v, set(c[i])); }, p, x);
  }
  return p;
}

// 2^r for 0 <= r <= 1: within 7.5e-5 of itself, and within 3e-6.
constexpr float cubic_exp2[] = {0.0780245145f, 0.226067172f, 0.695833533f, 0.999925219f};
constexpr float quartic_exp2[] = {0.0135341685f, 0.0520114619f, 0.241442754f, 0.693003835f,
                                  1.00000259f};

// 2ˣ as near as c comes; 0 far below, inf far above.
template <int n>
inline Numbers exp2(const float (&c)[n], const Numbers& x) {
  const auto less_its_floor = [](__m512 v) { return _mm512_maskz_reduce_ps(all, v, 0x09); };
  const auto times_2_to_floor = [](__m512 p, __m512 v) {
    return _mm512_maskz_scalef_ps(all, p, v);
  };
  return each(times_2_to_floor, polynomial(c, each(less_its_floor, x)), x);
}

inline __m512 size(__m512 x) { return _mm512_andnot_ps(set(-0.0f), x); }

// 1 - v where x has no minus sign, v where it has.
inline __m512 turned_over(__m512 x, __m512 v) {
  const __mmask16 plus = _mm512_testn_epi32_mask(_mm512_castps_si512(x), bits(1 << 31));
  return _mm512_mask_sub_ps(v, plus, set(1.0f), v);
}

// The first coefficient here and of the slope is negative: beyond 13.3, where the fits end and the
// results are 0 in bf16, both polynomials go on to -inf.
inline Numbers exact(const Numbers& x) {
  constexpr float c[] = {-6.99696233e-07f, 3.26922248e-05f, -0.000642310839f, 0.00709024282f,
                         -0.0503996758f,   -0.462707787f,   -1.14935088f,     -1.00013686f};
  const auto product = [](__m512 v, __m512 gate) { return _mm512_mul_ps(v, turned_over(v, gate)); };
  return each(product, x, exp2(cubic_exp2, polynomial(c, each(size, x))));
}

inline Numbers exact_slope(const Numbers& x) {
  constexpr float c[] = {-1.01755249e-06f, 4.36313239e-05f, -0.000761901606f, 0.00713056652f,
                         -0.0400848275f,   -0.57477571f,    -0.378013251f,    -0.588717127f};
  const Numbers t = each(size, x);
  const auto slope = [](__m512 v, __m512 t, __m512 e) {
    return turned_over(v, _mm512_mul_ps(_mm512_sub_ps(set(0.7517915247f), t), e));
  };
  return each(slope, x, t, exp2(cubic_exp2, polynomial(c, t)));
}

// -2u / ln 2 = x (linear + cubic x²). The bound on x² keeps u' finite; there s is 0 or 1.
constexpr float linear = -2.3022082f, cubic = 0.044715f * linear;
inline __m512 bounded_square(__m512 x) {
  return _mm512_maskz_min_ps(all, _mm512_mul_ps(x, x), set(110.0f));
}

// 1 + e^-2u
inline Numbers one_and_exp(const Numbers& x) {
  const auto exponent = [](__m512 v) {
    return _mm512_mul_ps(v, _mm512_fmadd_ps(set(cubic), bounded_square(v), set(linear)));
  };
  return each([](__m512 e) { return _mm512_add_ps(set(1.0f), e); },
              exp2(quartic_exp2, each(exponent, x)));
}

inline Numbers tanh(const Numbers& x) {
  return each([](__m512 v, __m512 e) { return _mm512_div_ps(v, e); }, x, one_and_exp(x));
}

inline Numbers tanh_slope(const Numbers& x) {
  constexpr float ln2 = 0.69314718f;
  const auto slope = [](__m512 v, __m512 e) {
    const __m512 s = _mm512_div_ps(set(1.0f), e);
    const __m512 slope_of_2u =
        _mm512_fmadd_ps(set(-3 * ln2 * cubic), bounded_square(v), set(-ln2 * linear));
    const __m512 s_times_rest = _mm512_mul_ps(s, _mm512_sub_ps(set(1.0f), s));
    return _mm512_fmadd_ps(_mm512_mul_ps(v, s_times_rest), slope_of_2u, s);
  };
  return each(slope, x, one_and_exp(x));
}

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
template <Numbers (*f)(const Numbers&)>
void round_gelu(const ProductPart& x, bf16* h, bf16* y) {
  for_lines_of(x, [&](std::int64_t from, std::int64_t to, const Lines& lines, const Lines& halves) {
    const Numbers v = each(as_bf16, load(x.from + from, lines));
    store(h + to, halves, v);
    store(y + to, halves, each(rounded, f(v)));
  });
}

// Each row of x lies in a page of its own, where no hardware prefetcher follows.
template <Numbers (*slope)(const Numbers&)>
void round_gelu_grad(const ProductPart& dy, const bf16* x, bf16* dx) {
  for_lines_of(
      dy, [&](std::int64_t from, std::int64_t to, const Lines& lines, const Lines& halves) {
        for (std::int64_t i = 0; i < 4; ++i) __builtin_prefetch(x + to + i * dy.ld + 32, 0, 2);
        const Numbers s = slope(load(x + to, halves));
        store(dx + to, halves, rounded_product(each(as_bf16, load(dy.from + from, lines)), s));
      });
}

}  // namespace sluice::gelu_avx512
