// Kernels of AdamW and of the squared norm.
//
// Bytes per element: AdamW 28 (reads w, g, m, v, writes w, m, v) in one pass, SquaredNorm 4. Limit:
// the memory bandwidth; AdamW's square root and division hide behind it.
#pragma once

#include "backend/cpu/ops/lanes.h"

namespace sluice {

// What one step's AdamW does to every number of a part: float32, but computed in double.
struct AdamWNumbers {
  float scale;         // of the gradient
  float beta1, rest1;  // rest = 1 - beta
  float beta2, rest2;
  float correct1, correct2;  // 1 / (1 - betaᵗ)
  float lr, decay, eps;
};

struct OptimizerKernels {
  void (*adamw)(const AdamWNumbers& a, const float* g, float* w, float* m, float* v,
                std::int64_t n);
  // The sum of x², in double: 16 running sums, taken in turn, then added in one order.
  double (*squared_norm)(const float* x, std::int64_t n);
};

extern const OptimizerKernels portable_optimizer;
extern const OptimizerKernels avx2_optimizer;
extern const OptimizerKernels avx512_optimizer;

namespace kernel {

// State too small for a normal float32 becomes 0: it is 30 orders below eps, and a row of an
// embedding whose token is never seen would else cost denormal arithmetic in every step for ever.
template <Isa isa>
inline Vec<isa> flush(Vec<isa> x) {
  return select(abs(x) < Vec<isa>::set(__FLT_MIN__), Vec<isa>::zero(), x);
}

template <Isa isa>
void adamw(const AdamWNumbers& a, const float* g, float* w, float* m, float* v, std::int64_t n) {
  using V = Vec<isa>;
  const V scale = V::set(a.scale), beta1 = V::set(a.beta1), rest1 = V::set(a.rest1);
  const V beta2 = V::set(a.beta2), rest2 = V::set(a.rest2);
  const V correct1 = V::set(a.correct1), correct2 = V::set(a.correct2);
  const V down = V::set(-a.lr), decay = V::set(a.decay), eps = V::set(a.eps);
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const V gradient = scale * lanes.load(g + i);
    const V mean = flush(fma(beta1, lanes.load(m + i), rest1 * gradient));
    const V square = flush(fma(beta2, lanes.load(v + i), rest2 * gradient * gradient));
    const V ratio = correct1 * mean / (sqrt(correct2 * square) + eps);
    const V weight = lanes.load(w + i);
    lanes.store(w + i, fma(down, fma(decay, weight, ratio), weight));
    lanes.store(m + i, mean);
    lanes.store(v + i, square);
  });
}

template <Isa isa>
double squared_norm(const float* x, std::int64_t n) {
  using Floats = float __attribute__((vector_size(16)));  // widths that every target maps well
  using Doubles = double __attribute__((vector_size(32)));
  Doubles s0 = {}, s1 = {}, s2 = {}, s3 = {};
  const auto add_squares = [](Doubles& sum, const float* p) {
    Floats f;
    __builtin_memcpy(&f, p, sizeof(f));
    const Doubles d = __builtin_convertvector(f, Doubles);
    sum += d * d;
  };
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    add_squares(s0, x + i);
    add_squares(s1, x + i + 4);
    add_squares(s2, x + i + 8);
    add_squares(s3, x + i + 12);
  }
  const Doubles four = (s0 + s2) + (s1 + s3);
  double sum = (four[0] + four[2]) + (four[1] + four[3]);
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

template <Isa isa>
constexpr OptimizerKernels optimizer() {
  return {.adamw = adamw<isa>, .squared_norm = squared_norm<isa>};
}

}  // namespace kernel
}  // namespace sluice
