// Rotary reads x and writes y once: limit = their bytes over the memory bandwidth. The angles cost
// one sine and cosine (double, rounded to float) per token and pair, shared by the heads.
//
// x_MNH  y_MNH  positions_M  (M tokens, N heads, H numbers per head)
#include <algorithm>
#include <cmath>

#include "backend/cpu/ops/launch.h"
#include "backend/cpu/ops/ops.h"

namespace sluice {
namespace {

struct Turn {
  float cosine, sine;
};

// One token: turns[i] applies to the pair (x[2i], x[2i+1]) of each head.
void turn_heads(const float* x_NH, float* y_NH, std::int64_t heads, std::int64_t size,
                std::int64_t pairs, const Turn* turns) {
  for (std::int64_t n = 0; n < heads; ++n) {
    const float* x = x_NH + n * size;
    float* y = y_NH + n * size;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float even = x[2 * i];
      const float odd = x[2 * i + 1];
      y[2 * i] = even * turns[i].cosine - odd * turns[i].sine;
      y[2 * i + 1] = odd * turns[i].cosine + even * turns[i].sine;
    }
    for (std::int64_t h = 2 * pairs; h < size; ++h) y[h] = x[h];
  }
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Rotary& op, Tiles tiles) {
  const Tensor& x = frame[op.x];
  const std::int64_t count = frame[op.positions].count();
  const std::int64_t size = x.shape().last();
  const std::int64_t heads = features(x.shape()) / size;
  const std::int64_t pairs = op.dims / 2;
  const std::int32_t* positions_M = frame[op.positions].data<std::int32_t>();
  const float* x_MNH = x.data<float>();
  float* y_MNH = frame[op.y].data<float>();
  const std::int64_t tasks = (count + rotary_tile - 1) / rotary_tile;
  for_tasks(cpu.pool(), tasks, tiles, [&](std::int64_t task, int worker) {
    auto* frequencies = reinterpret_cast<double*>(cpu.scratch(worker).data());
    auto* turns = reinterpret_cast<Turn*>(frequencies + pairs);
    for (std::int64_t i = 0; i < pairs; ++i) {
      frequencies[i] = std::pow(static_cast<double>(op.base),
                                -2.0 * static_cast<double>(i) / static_cast<double>(op.dims));
    }
    const std::int64_t end = std::min(count, (task + 1) * rotary_tile);
    for (std::int64_t t = task * rotary_tile; t < end; ++t) {
      for (std::int64_t i = 0; i < pairs; ++i) {
        const double angle = positions_M[t] * frequencies[i];
        const auto sine = static_cast<float>(std::sin(angle));
        turns[i] = {static_cast<float>(std::cos(angle)), op.inverse ? -sine : sine};
      }
      const std::int64_t row = t * heads * size;
      turn_heads(x_MNH + row, y_MNH + row, heads, size, pairs, turns);
    }
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Rotary& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
