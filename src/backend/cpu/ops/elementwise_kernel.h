// Kernels of Add, Scale, AddInto, Gelu and GeluGrad over n numbers. Results may lie where operands
// do, number for number.
//
// Bytes per element: Add 12, Scale 8, AddInto 12, Gelu 8, GeluGrad 12. Limit: the memory bandwidth;
// of the GELUs, about 25 vector instructions for each exp when their operands lie in a cache.
#pragma once

#include "backend/cpu/ops/lanes.h"

namespace sluice {

struct ElementwiseKernels {
  // y = a + scale * b, rounded once (the portable kernel: twice)
  void (*add)(const float* a, const float* b, float scale, float* y, std::int64_t n);
  void (*scale)(const float* x, float factor, float* y, std::int64_t n);
  void (*gelu_tanh)(const float* x, float* y, std::int64_t n);
  void (*gelu_exact)(const float* x, float* y, std::int64_t n);
  void (*gelu_tanh_grad)(const float* x, const float* dy, float* dx, std::int64_t n);
  void (*gelu_exact_grad)(const float* x, const float* dy, float* dx, std::int64_t n);
  // The functions of vec.h by themselves: what their tests call.
  void (*exp)(const float* x, float* y, std::int64_t n);
  void (*tanh)(const float* x, float* y, std::int64_t n);
  void (*erf)(const float* x, float* y, std::int64_t n);
};

extern const ElementwiseKernels portable_elementwise;
extern const ElementwiseKernels avx2_elementwise;
extern const ElementwiseKernels avx512_elementwise;

namespace kernel {

template <Isa isa>
inline void add(const float* a, const float* b, float scale, float* y, std::int64_t n) {
  const auto s = Vec<isa>::set(scale);
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    lanes.store(y + i, fma(s, lanes.load(b + i), lanes.load(a + i)));
  });
}

template <Isa isa>
void scale(const float* x, float factor, float* y, std::int64_t n) {
  const auto f = Vec<isa>::set(factor);
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) { lanes.store(y + i, f * lanes.load(x + i)); });
}

// 1 + tanh u = 2 / (1 + e⁻²ᵘ): the tanh form's factor 0.5 (1 + tanh u) is 1 / (1 + e⁻²ᵘ), without
// the loss that the sum has at large negative u. This is -2u.
template <Isa isa>
inline Vec<isa> tanh_exponent(Vec<isa> x) {
  using V = Vec<isa>;
  constexpr float a = -1.5957691216057308f;  // -2 sqrt(2 / pi)
  return x * fma(V::set(a * 0.044715f), x * x, V::set(a));
}

// The normal distribution function.
template <Isa isa>
inline Vec<isa> exact_gate(Vec<isa> x) {
  using V = Vec<isa>;
  return fma(V::set(0.5f), erf(x * V::set(0.70710678f)), V::set(0.5f));
}

template <Isa isa>
void gelu_tanh(const float* x, float* y, std::int64_t n) {
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const auto v = lanes.load(x + i);
    lanes.store(y + i, v / (Vec<isa>::set(1.0f) + exp(tanh_exponent(v))));
  });
}

template <Isa isa>
void gelu_exact(const float* x, float* y, std::int64_t n) {
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const auto v = lanes.load(x + i);
    lanes.store(y + i, v * exact_gate(v));
  });
}

// With e = e⁻²ᵘ and the gate s = 1 / (1 + e): s + x s (1 - s) 2 u', where 1 - s = s e without a
// difference and u' = sqrt(2 / pi) (1 + 3 · 0.044715 x²). The bound keeps e finite.
template <Isa isa>
void gelu_tanh_grad(const float* x, const float* dy, float* dx, std::int64_t n) {
  using V = Vec<isa>;
  constexpr float a = 1.5957691216057308f;
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const V v = lanes.load(x + i);
    const V e = exp(min(V::set(80.0f), tanh_exponent(v)));
    const V s = V::set(1.0f) / (V::set(1.0f) + e);
    const V slope = fma(V::set(a * 3 * 0.044715f), v * v, V::set(a));
    const V derivative = fma(v * slope, s * s * e, s);
    lanes.store(dx + i, lanes.load(dy + i) * derivative);
  });
}

// The distribution function plus x times the density.
template <Isa isa>
void gelu_exact_grad(const float* x, const float* dy, float* dx, std::int64_t n) {
  using V = Vec<isa>;
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const V v = lanes.load(x + i);
    const V density = V::set(0.39894228f) * exp(V::set(-0.5f) * v * v);
    lanes.store(dx + i, lanes.load(dy + i) * fma(v, density, exact_gate(v)));
  });
}

template <Isa isa, Vec<isa> (*function)(Vec<isa>)>
void map(const float* x, float* y, std::int64_t n) {
  for_lanes<isa>(
      n, [=](std::int64_t i, auto lanes) { lanes.store(y + i, function(lanes.load(x + i))); });
}

template <Isa isa>
constexpr ElementwiseKernels elementwise() {
  return {.add = add<isa>,
          .scale = scale<isa>,
          .gelu_tanh = gelu_tanh<isa>,
          .gelu_exact = gelu_exact<isa>,
          .gelu_tanh_grad = gelu_tanh_grad<isa>,
          .gelu_exact_grad = gelu_exact_grad<isa>,
          .exp = map<isa, exp<isa>>,
          .tanh = map<isa, tanh<isa>>,
          .erf = map<isa, erf<isa>>};
}

}  // namespace kernel
}  // namespace sluice
