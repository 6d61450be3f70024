// Kernels of the end of a step: rounding of gradients, squared norm, AdamW, averages of weights.
//
// Bytes per element, in one pass each: AdamW float32 28 (reads w, g, m, v, writes w, m, v), exact
// 28 (w and low are 2 + 2), compact 12.1 (w 2, g 4, m 1, v 1, written again but for g; scales 0.06
// each way); SquaredNorm 4; RoundGradient 8, 9 with codes; RestoreGradient 5; Ema 12, 10 from bf16.
// Limit: the memory bandwidth. AdamW's square root and division hide behind it in the float32 form.
// Exact, and compact with two more roots and a random number against its 12 bytes, have not been
// timed.
#pragma once

#include "backend/cpu/ops/optimizer_blocks.h"

namespace sluice {

struct OptimizerKernels {
  void (*adamw)(const AdamWNumbers& a, const float* g, float* w, float* m, float* v,
                std::int64_t n);
  void (*adamw_exact)(const AdamWNumbers& a, const float* g, std::uint16_t* w, std::int16_t* low,
                      float* m, float* v, std::int64_t n);
  // The blocks [first, last).
  void (*adamw_compact)(const CompactTensor& t, std::int64_t first, std::int64_t last);
  void (*round_int8)(const Int8Tensor& t, std::int64_t first, std::int64_t last);
  void (*restore_int8)(const Int8Tensor& t, std::int64_t first, std::int64_t last);
  void (*round_bf16)(float* g, std::int64_t n);
  // average = decay * average + rest * w. The second from bf16, or with `low` from masters.
  void (*ema)(float decay, float rest, const float* w, float* average, std::int64_t n);
  void (*ema_coded)(float decay, float rest, const std::uint16_t* w, const std::int16_t* low,
                    float* average, std::int64_t n);
  // The sum of x², in double: 16 running sums, taken in turn, then added in one order.
  double (*squared_norm)(const float* x, std::int64_t n);
};

extern const OptimizerKernels portable_optimizer;
extern const OptimizerKernels avx2_optimizer;
extern const OptimizerKernels avx512_optimizer;

namespace kernel {

template <Isa isa>
void adamw(const AdamWNumbers& a, const float* g, float* w, float* m, float* v, std::int64_t n) {
  using V = Vec<isa>;
  const AdamWLanes<isa> step(a);
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    const V gradient = step.scale * lanes.load(g + i);
    const V mean = step.mean(gradient, lanes.load(m + i));
    const V square = step.square(gradient, lanes.load(v + i));
    lanes.store(w + i, step.weight(lanes.load(w + i), mean, square));
    lanes.store(m + i, mean);
    lanes.store(v + i, square);
  });
}

inline constexpr std::int64_t chunk = 256;  // numbers of a weight that are float32 at a time

template <Isa isa>
void adamw_exact(const AdamWNumbers& a, const float* g, std::uint16_t* w, std::int16_t* low,
                 float* m, float* v, std::int64_t n) {
  float masters[chunk];
  for (std::int64_t i = 0; i < n; i += chunk) {
    const std::int64_t size = n - i < chunk ? n - i : chunk;
    join_masters<isa>(w + i, low + i, masters, size);
    adamw<isa>(a, g + i, masters, m + i, v + i, size);
    split_masters<isa>(masters, w + i, low + i, size);
  }
}

template <Isa isa>
void ema(float decay, float rest, const float* w, float* average, std::int64_t n) {
  const auto old = Vec<isa>::set(decay), now = Vec<isa>::set(rest);
  for_lanes<isa>(n, [=](std::int64_t i, auto lanes) {
    lanes.store(average + i, fma(old, lanes.load(average + i), now * lanes.load(w + i)));
  });
}

template <Isa isa>
void ema_coded(float decay, float rest, const std::uint16_t* w, const std::int16_t* low,
               float* average, std::int64_t n) {
  float wide[chunk];
  for (std::int64_t i = 0; i < n; i += chunk) {
    const std::int64_t size = n - i < chunk ? n - i : chunk;
    if (low == nullptr) {
      widen<isa>(w + i, wide, size);
    } else {
      join_masters<isa>(w + i, low + i, wide, size);
    }
    ema<isa>(decay, rest, wide, average + i, size);
  }
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
  return {.adamw = adamw<isa>,
          .adamw_exact = adamw_exact<isa>,
          .adamw_compact = adamw_compact<isa>,
          .round_int8 = round_int8<isa>,
          .restore_int8 = restore_int8<isa>,
          .round_bf16 = round_to_bf16<isa>,
          .ema = ema<isa>,
          .ema_coded = ema_coded<isa>,
          .squared_norm = squared_norm<isa>};
}

}  // namespace kernel
}  // namespace sluice
