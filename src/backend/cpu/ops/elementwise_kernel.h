// Kernels over n numbers: Add, Scale, AddInto, Cast, Gelu, GeluGrad, a rotation, a running sum.
// Results may lie where operands do, number for number. Numbers are stored as T, float or bf16, and
// computed with in float32; a result is rounded once, when it is stored.
//
// Bytes per element in float32 (bf16: half): Add 12, Scale 8, AddInto 12, Gelu 8, GeluGrad 12; Cast
// 6. Limit: the memory bandwidth; of the GELUs, about 25 vector instructions for each exp when
// their operands lie in a cache. Those over bf16 in AVX-512 are others: gelu_bf16.h.
#pragma once

#include "backend/cpu/ops/lanes.h"

namespace sluice {

template <class T>
struct StreamKernels {
  // y = a + scale * b, rounded once (the portable kernel: twice)
  void (*add)(const T* a, const T* b, float scale, T* y, std::int64_t n);
  void (*scale)(const T* x, float factor, T* y, std::int64_t n);
  void (*gelu_tanh)(const T* x, T* y, std::int64_t n);
  void (*gelu_exact)(const T* x, T* y, std::int64_t n);
  void (*gelu_tanh_grad)(const T* x, const T* dy, T* dx, std::int64_t n);
  void (*gelu_exact_grad)(const T* x, const T* dy, T* dx, std::int64_t n);
  // y = x * along + (the other number of its pair) * across; n even
  void (*turn)(const T* x, const float* along, const float* across, T* y, std::int64_t n);
  void (*add_to)(const T* x, float* sum, std::int64_t n);
};

// A part of a product, rows of `columns` numbers, and how far apart are the rows of the bf16 that
// belong to it.
struct ProductPart {
  const float* from;
  std::int64_t from_ld, ld;
  std::int64_t rows, columns;
};

// h = x rounded to bf16, y = GELU of h; dx = dy rounded to bf16, times the slope at x. The bits are
// those of to_bf16 and the kernel of StreamKernels<bf16>, one after the other.
struct RoundedGelu {
  void (*tanh)(const ProductPart& x, bf16* h, bf16* y);
  void (*exact)(const ProductPart& x, bf16* h, bf16* y);
  void (*tanh_grad)(const ProductPart& dy, const bf16* x, bf16* dx);
  void (*exact_grad)(const ProductPart& dy, const bf16* x, bf16* dx);
};

struct ElementwiseKernels {
  StreamKernels<float> f32;
  StreamKernels<bf16> b16;
  RoundedGelu rounded_gelu;
  void (*to_bf16)(const float* x, bf16* y, std::int64_t n);
  void (*to_f32)(const bf16* x, float* y, std::int64_t n);
  // The functions of vec.h by themselves: what their tests call.
  void (*exp)(const float* x, float* y, std::int64_t n);
  void (*tanh)(const float* x, float* y, std::int64_t n);
  void (*erf)(const float* x, float* y, std::int64_t n);

  template <class T>
  const StreamKernels<T>& of() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return f32;
    } else {
      return b16;
    }
  }
};

extern const ElementwiseKernels portable_elementwise;
extern const ElementwiseKernels avx2_elementwise;
extern const ElementwiseKernels avx512_elementwise;

namespace kernel {

template <Isa isa, class T>
inline void add(const T* a, const T* b, float scale, T* y, std::int64_t n) {
  const auto s = Vec<isa>::set(scale);
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    lanes.store(y + i, fma(s, lanes.load(b + i), lanes.load(a + i)));
  });
}

template <Isa isa, class T>
void scale(const T* x, float factor, T* y, std::int64_t n) {
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

template <Isa isa, class T>
void gelu_tanh(const T* x, T* y, std::int64_t n) {
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const auto v = lanes.load(x + i);
    lanes.store(y + i, v / (Vec<isa>::set(1.0f) + exp(tanh_exponent(v))));
  });
}

template <Isa isa, class T>
void gelu_exact(const T* x, T* y, std::int64_t n) {
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const auto v = lanes.load(x + i);
    lanes.store(y + i, v * exact_gate(v));
  });
}

// With e = e⁻²ᵘ and the gate s = 1 / (1 + e): s + x s (1 - s) 2 u', where 1 - s = s e without a
// difference and u' = sqrt(2 / pi) (1 + 3 · 0.044715 x²). The bound keeps e finite.
template <Isa isa, class T>
void gelu_tanh_grad(const T* x, const T* dy, T* dx, std::int64_t n) {
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
template <Isa isa, class T>
void gelu_exact_grad(const T* x, const T* dy, T* dx, std::int64_t n) {
  using V = Vec<isa>;
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const V v = lanes.load(x + i);
    const V density = V::set(0.39894228f) * exp(V::set(-0.5f) * v * v);
    lanes.store(dx + i, lanes.load(dy + i) * fma(v, density, exact_gate(v)));
  });
}

template <Isa isa, class T>
void turn(const T* x, const float* along, const float* across, T* y, std::int64_t n) {
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const auto v = lanes.load(x + i);
    lanes.store(y + i, v * lanes.load(along + i) + swap_pairs(v) * lanes.load(across + i));
  });
}

template <Isa isa, class T>
void add_to(const T* x, float* sum, std::int64_t n) {
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    lanes.store(sum + i, lanes.load(sum + i) + lanes.load(x + i));
  });
}

template <Isa isa, class From, class To>
void cast(const From* x, To* y, std::int64_t n) {
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) { lanes.store(y + i, lanes.load(x + i)); });
}

template <Isa isa, void (*gelu)(const bf16*, bf16*, std::int64_t)>
void round_gelu(const ProductPart& x, bf16* h, bf16* y) {
  for (std::int64_t i = 0; i < x.rows; ++i) {
    cast<isa>(x.from + i * x.from_ld, h + i * x.ld, x.columns);
    gelu(h + i * x.ld, y + i * x.ld, x.columns);
  }
}

template <Isa isa, void (*grad)(const bf16*, const bf16*, bf16*, std::int64_t)>
void round_gelu_grad(const ProductPart& dy, const bf16* x, bf16* dx) {
  for (std::int64_t i = 0; i < dy.rows; ++i) {
    cast<isa>(dy.from + i * dy.from_ld, dx + i * dy.ld, dy.columns);
    grad(x + i * dy.ld, dx + i * dy.ld, dx + i * dy.ld, dy.columns);
  }
}

template <Isa isa, Vec<isa> (*function)(Vec<isa>)>
void map(const float* x, float* y, std::int64_t n) {
  for_lanes<isa>(
      n, [=](std::int64_t i, auto lanes) { lanes.store(y + i, function(lanes.load(x + i))); });
}

template <Isa isa, class T>
constexpr StreamKernels<T> stream() {
  return {.add = add<isa, T>,
          .scale = scale<isa, T>,
          .gelu_tanh = gelu_tanh<isa, T>,
          .gelu_exact = gelu_exact<isa, T>,
          .gelu_tanh_grad = gelu_tanh_grad<isa, T>,
          .gelu_exact_grad = gelu_exact_grad<isa, T>,
          .turn = turn<isa, T>,
          .add_to = add_to<isa, T>};
}

template <Isa isa>
constexpr ElementwiseKernels elementwise() {
  return {.f32 = stream<isa, float>(),
          .b16 = stream<isa, bf16>(),
          .rounded_gelu = {.tanh = round_gelu<isa, gelu_tanh<isa, bf16>>,
                           .exact = round_gelu<isa, gelu_exact<isa, bf16>>,
                           .tanh_grad = round_gelu_grad<isa, gelu_tanh_grad<isa, bf16>>,
                           .exact_grad = round_gelu_grad<isa, gelu_exact_grad<isa, bf16>>},
          .to_bf16 = cast<isa, float, bf16>,
          .to_f32 = cast<isa, bf16, float>,
          .exp = map<isa, exp<isa>>,
          .tanh = map<isa, tanh<isa>>,
          .erf = map<isa, erf<isa>>};
}

}  // namespace kernel
}  // namespace sluice
