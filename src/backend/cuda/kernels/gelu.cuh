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

template <bool exact, bool rough>
__device__ inline float gelu_of(float x) {
  if constexpr (exact) return x * exact_gate(x);
  return quotient<rough>(x, 1.0f + exponential<rough>(tanh_exponent(x)));
}

template <bool exact, bool rough>
__device__ inline float gelu_slope_of(float x) {
  if constexpr (exact)
    return fmaf(x, 0.39894228f * exponential<rough>(-0.5f * x * x), exact_gate(x));
  constexpr float a = 1.5957691216057308f;
  const float e = exponential<rough>(fminf(80.0f, tanh_exponent(x)));
  const float s = quotient<rough>(1.0f, 1.0f + e);
  return fmaf(x * fmaf(a * 3 * 0.044715f, x * x, a), s * s * e, s);
}

}  // namespace sluice::gpu
