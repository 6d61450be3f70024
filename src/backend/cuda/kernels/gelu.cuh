// GELU and its slope (ops/gelu/gelu.h), in the forms that lose nothing in the tails: see
// cpu/ops/elementwise_kernel.h. `rough`, for results of bf16: the hardware's exponential and
// quotient, a few units in the last place of float32, since else the arithmetic is the limit.
#pragma once

namespace sluice::gpu {

template <bool rough>
__device__ inline float exponential(float x) {
  if constexpr (rough) return __expf(x);
  return expf(x);
}
template <bool rough>
__device__ inline float quotient(float x, float y) {
  if constexpr (rough) return __fdividef(x, y);  // 0 for y beyond 2^126
  return x / y;
}

__device__ inline float tanh_exponent(float x) {
  constexpr float a = -1.5957691216057308f;  // -2 sqrt(2 / pi)
  return x * fmaf(a * 0.044715f, x * x, a);
}
__device__ inline float exact_gate(float x) { return 0.5f * erfcf(-0.70710678f * x); }

// The normal distribution below x, and exp(-x²/2). Abramowitz and Stegun 7.1.26: 1.5e-7 of erf, in
// the tails half a percent at most of what is left, a rounding of bf16.
__device__ inline float rough_gate(float x, float& bell) {
  bell = __expf(-0.5f * x * x);
  const float t = __fdividef(1.0f, fmaf(0.3275911f * 0.70710678f, fabsf(x), 1.0f));
  float sum = fmaf(1.061405429f, t, -1.453152027f);
  sum = fmaf(sum, t, 1.421413741f);
  sum = fmaf(sum, t, -0.284496736f);
  sum = fmaf(sum, t, 0.254829592f);
  const float tail = 0.5f * bell * t * sum;
  return x > 0 ? 1.0f - tail : tail;
}

template <bool exact, bool rough>
__device__ inline float gelu_of(float x) {
  if constexpr (exact && rough) {
    float bell;
    return x * rough_gate(x, bell);
  } else if constexpr (exact) {
    return x * exact_gate(x);
  } else {
    return quotient<rough>(x, 1.0f + exponential<rough>(tanh_exponent(x)));
  }
}

template <bool exact, bool rough>
__device__ inline float gelu_slope_of(float x) {
  if constexpr (exact && rough) {
    float bell;
    const float gate = rough_gate(x, bell);
    return fmaf(x, 0.39894228f * bell, gate);
  } else if constexpr (exact) {
    return fmaf(x, 0.39894228f * expf(-0.5f * x * x), exact_gate(x));
  } else {
    constexpr float a = 1.5957691216057308f;
    const float e = exponential<rough>(fminf(80.0f, tanh_exponent(x)));
    const float s = quotient<rough>(1.0f, 1.0f + e);
    return fmaf(x * fmaf(a * 3 * 0.044715f, x * x, a), s * s * e, s);
  }
}

}  // namespace sluice::gpu
