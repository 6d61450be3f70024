// GELU and its slope of numbers stored as bf16, in AVX-512, in registers.
// gelu_bf16_kernels.h loads and stores them.
//
// A bf16 result has 8 bits, so an error of 1e-5 of itself is as good as none: that takes half of
// the arithmetic of the float32 kernels. With t = |x|:
//   exact  the gate Phi(-t), and D(t), the slope at -t, fall smoothly through 38 decades: log2 of
//          them is a short polynomial of t once D's zero, at 0.7518, is divided out. The rest is
//          symmetry, and no sum loses the tail: x Phi(x), Phi(t) = 1 - Phi(-t); the slope at t is
//          1 - D(t).
//   tanh   x s and s + x s (1 - s) 2u' with s = 1 / (1 + e^-2u), as in elementwise_kernel.h.
// tools/fit_gelu.py makes the coefficients.
//
// Largest relative error before the one rounding, over all 65,536 numbers, for |x| <= 4 and beyond:
//   exact 1.3e-5, 8e-5    its slope 1.1e-5, 1e-4 (2.3e-4 where it is below 1e-30)
//   tanh  3.2e-6, 7e-6    its slope 3.1e-6, 7e-6 (6e-5 next to its zero)
// A result below 1e-36 may be 0. A NaN stays NaN; the infinities give what the formulas give: +inf
// for GELU of +inf, else NaN.
//
// 128 numbers at a time: eight chains of dependent multiply-adds keep two pipes of four stages
// busy. Limit: 12 to 18 instructions on those two pipes per 16 numbers.
//
// Only for files compiled with AVX-512; the names are of no other instruction set (see vec.h).
#pragma once

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

// 2ˣ within 3e-6 of itself; 0 far below, inf far above.
inline Numbers exp2(const Numbers& x) {
  constexpr float c[] = {0.0135341685f, 0.0520114619f, 0.241442754f, 0.693003835f, 1.00000259f};
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
  constexpr float c[] = {-2.22671936e-09f, 1.58256804e-07f, -4.94293533e-06f, 8.99220882e-05f,
                         -0.00106883383f,  0.00888188073f,  -0.0545011895f,   -0.458089171f,
                         -1.15134713f,     -0.999991392f};
  const auto product = [](__m512 v, __m512 gate) { return _mm512_mul_ps(v, turned_over(v, gate)); };
  return each(product, x, exp2(polynomial(c, each(size, x))));
}

inline Numbers exact_slope(const Numbers& x) {
  constexpr float c[] = {-6.92879861e-11f, 5.42628932e-09f, -1.87847649e-07f, 3.79973159e-06f,
                         -5.01159476e-05f, 0.000456863326f, -0.00299176901f,  0.0145395536f,
                         -0.0542061136f,   -0.561191879f,   -0.38304845f,     -0.588410715f};
  const Numbers t = each(size, x);
  const auto slope = [](__m512 v, __m512 t, __m512 e) {
    return turned_over(v, _mm512_mul_ps(_mm512_sub_ps(set(0.7517915247f), t), e));
  };
  return each(slope, x, t, exp2(polynomial(c, t)));
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
  return each([](__m512 e) { return _mm512_add_ps(set(1.0f), e); }, exp2(each(exponent, x)));
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

}  // namespace sluice::gelu_avx512
