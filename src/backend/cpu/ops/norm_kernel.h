// Kernels of layer normalisation, forward and backward. A row is one token's n features; the sums
// within a row and over the rows of a chunk have one order for every instruction set.
//
// Rows are stored as T, float or bf16, and computed with in float32; gains, biases and statistics
// are float32.
//
// Bytes per element in float32 (bf16: half): LayerNorm 8, ResidualNorm 16, LayerNormGradInput 12,
// LayerNormGradWeight 8 (the second and third pass over a row find it in the first cache). Limit:
// the memory bandwidth.
#pragma once

#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/lanes.h"

namespace sluice {

template <class T>
struct NormKernelsOf {
  // y [rows n], mean and rstd [rows] of x [rows n]; bias may be null.
  void (*norm)(const T* x, const float* gain, const float* bias, float eps, std::int64_t rows,
               std::int64_t n, T* y, float* mean, float* rstd);
  // sum = a + scale * b, then norm of it as stored, row by row; bit-equal to `add` and then `norm`.
  void (*residual_norm)(const T* a, const T* b, float scale, T* sum, const float* gain,
                        const float* bias, float eps, std::int64_t rows, std::int64_t n, T* y,
                        float* mean, float* rstd);
  void (*grad_input)(const T* x, const float* gain, const float* mean, const float* rstd,
                     const T* dy, std::int64_t rows, std::int64_t n, T* dx);
  // dgain [n] and dbias [n] (null: not wanted) of these rows alone, which are summed in order.
  void (*grad_weight)(const T* x, const float* mean, const float* rstd, const T* dy,
                      std::int64_t rows, std::int64_t n, float* dgain, float* dbias);
};

struct NormKernels {
  NormKernelsOf<float> f32;
  NormKernelsOf<bf16> b16;
  // sum = (first ? 0 : sum) + the sum of n numbers in each of `parts` rows, `stride` apart, in
  // order.
  void (*join)(const float* part, std::int64_t parts, std::int64_t stride, std::int64_t n,
               bool first, float* sum);

  template <class T>
  const NormKernelsOf<T>& of() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return f32;
    } else {
      return b16;
    }
  }
};

extern const NormKernels portable_norm;
extern const NormKernels avx2_norm;
extern const NormKernels avx512_norm;

namespace kernel {

template <Isa isa, class T>
inline void norm_row(const T* x, const float* gain, const float* bias, float eps, std::int64_t n,
                     T* y, float* mean_out, float* rstd_out) {
  using V = Vec<isa>;
  const float count = static_cast<float>(n);
  const float mean =
      sum_lanes<isa>(n, [=](std::int64_t i, auto lanes) { return lanes.load(x + i); }) / count;
  const V m = V::set(mean);
  const float variance = sum_lanes<isa>(n,
                                        [=](std::int64_t i, auto lanes) {
                                          const V d = lanes.load(x + i) - m;
                                          return d * d;
                                        }) /
                         count;
  const float rstd = 1.0f / __builtin_sqrtf(variance + eps);
  const V r = V::set(rstd);
  if (bias != nullptr) {
    for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
      const V normal = (lanes.load(x + i) - m) * r;
      lanes.store(y + i, fma(normal, lanes.load(gain + i), lanes.load(bias + i)));
    });
  } else {
    for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
      lanes.store(y + i, (lanes.load(x + i) - m) * r * lanes.load(gain + i));
    });
  }
  *mean_out = mean;
  *rstd_out = rstd;
}

template <Isa isa, class T>
void layer_norm(const T* x, const float* gain, const float* bias, float eps, std::int64_t rows,
                std::int64_t n, T* y, float* mean, float* rstd) {
  for (std::int64_t i = 0; i < rows; ++i) {
    norm_row<isa, T>(x + i * n, gain, bias, eps, n, y + i * n, mean + i, rstd + i);
  }
}

template <Isa isa, class T>
void residual_norm(const T* a, const T* b, float scale, T* sum, const float* gain,
                   const float* bias, float eps, std::int64_t rows, std::int64_t n, T* y,
                   float* mean, float* rstd) {
  for (std::int64_t i = 0; i < rows; ++i) {
    add<isa, T>(a + i * n, b + i * n, scale, sum + i * n, n);
    norm_row<isa, T>(sum + i * n, gain, bias, eps, n, y + i * n, mean + i, rstd + i);
  }
}

// With normal = (x - mean) rstd and g = dy gain:  dx = rstd (g - mean(g) - normal mean(g normal)).
template <Isa isa, class T>
void norm_grad_input(const T* x, const float* gain, const float* mean, const float* rstd,
                     const T* dy, std::int64_t rows, std::int64_t n, T* dx) {
  using V = Vec<isa>;
  const float count = static_cast<float>(n);
  for (std::int64_t row = 0; row < rows; ++row, x += n, dy += n, dx += n) {
    const V m = V::set(mean[row]), r = V::set(rstd[row]);
    const V g_mean = V::set(
        sum_lanes<isa>(n, [=](std::int64_t i,
                              auto lanes) { return lanes.load(dy + i) * lanes.load(gain + i); }) /
        count);
    const V g_normal =
        V::set(sum_lanes<isa>(n,
                              [=](std::int64_t i, auto lanes) {
                                const V normal = (lanes.load(x + i) - m) * r;
                                return lanes.load(dy + i) * lanes.load(gain + i) * normal;
                              }) /
               count);
    for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
      const V normal = (lanes.load(x + i) - m) * r;
      const V g = lanes.load(dy + i) * lanes.load(gain + i);
      lanes.store(dx + i, r * (g - g_mean - normal * g_normal));
    });
  }
}

template <Isa isa, class T>
void norm_grad_weight(const T* x, const float* mean, const float* rstd, const T* dy,
                      std::int64_t rows, std::int64_t n, float* dgain, float* dbias) {
  using V = Vec<isa>;
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    if (dgain != nullptr) lanes.store(dgain + i, V::zero());
    if (dbias != nullptr) lanes.store(dbias + i, V::zero());
  });
  for (std::int64_t row = 0; row < rows; ++row, x += n, dy += n) {
    const V m = V::set(mean[row]), r = V::set(rstd[row]);
    for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
      const V d = lanes.load(dy + i);
      if (dgain != nullptr) {
        const V normal = (lanes.load(x + i) - m) * r;
        lanes.store(dgain + i, fma(d, normal, lanes.load(dgain + i)));
      }
      if (dbias != nullptr) lanes.store(dbias + i, lanes.load(dbias + i) + d);
    });
  }
}

template <Isa isa>
void norm_join(const float* part, std::int64_t parts, std::int64_t stride, std::int64_t n,
               bool first, float* sum) {
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    auto total = lanes.load(part + i);
    for (std::int64_t k = 1; k < parts; ++k) total = total + lanes.load(part + k * stride + i);
    lanes.store(sum + i, first ? total : lanes.load(sum + i) + total);
  });
}

template <Isa isa, class T>
constexpr NormKernelsOf<T> norm_of() {
  return {.norm = layer_norm<isa, T>,
          .residual_norm = residual_norm<isa, T>,
          .grad_input = norm_grad_input<isa, T>,
          .grad_weight = norm_grad_weight<isa, T>};
}

template <Isa isa>
constexpr NormKernels norm() {
  return {.f32 = norm_of<isa, float>(), .b16 = norm_of<isa, bf16>(), .join = norm_join<isa>};
}

}  // namespace kernel
}  // namespace sluice
