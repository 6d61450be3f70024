// 2ˣ of sixteen floats, for softmaxes of bf16 models. Empty unless compiled with AVX-512.
//
// Two instructions of AVX-512 take x apart and put the result together: seven operations in place
// of the eighteen of exp() in vec.h, which has the same bits with every instruction set.
#pragma once

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>

namespace sluice {

constexpr float log2_of_e = 1.44269504f;

// Within 2e-7 of itself; 0 far below, inf far above, 0 and inf of the infinities; NaN stays. Degree
// 5 of 2ʳ, r = x - floor(x); tools/fit_gelu.py makes the coefficients.
static inline __m512 exp2_of(__m512 x) {
  const __m512 r = _mm512_maskz_reduce_ps(0xffff, x, 0x09);
  __m512 p = _mm512_set1_ps(0.00187757789f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0089893375f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0558263199f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.240153617f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693153073f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999999925f));
  return _mm512_maskz_scalef_ps(0xffff, p, x);
}

}  // namespace sluice
#endif
