// Rotary reads x and writes y once: limit = their bytes over the memory bandwidth. The angles cost
// one sine and cosine (double, rounded to float) per token and pair, shared by the heads.
//
// x_MNH  y_MNH  positions_M  (M tokens, N heads, H numbers per head)
#include <algorithm>
#include <cmath>

#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/launch.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"

namespace sluice {
namespace {

// What the pairs of a token turn by: the numbers (even, odd) of pair i become
// (even cos - odd sin, odd cos + even sin), so along = cos, cos and across = -sin, sin.
struct Turns {
  double* frequencies;  // one per pair
  float *along, *across;
  std::int64_t pairs;

  Turns(std::byte* scratch, const Rotary& op)
      : frequencies(reinterpret_cast<double*>(scratch)),
        along(reinterpret_cast<float*>(frequencies + op.dims / 2)),
        across(along + op.dims),
        pairs(op.dims / 2) {
    for (std::int64_t i = 0; i < pairs; ++i) {
      frequencies[i] = std::pow(static_cast<double>(op.base),
                                -2.0 * static_cast<double>(i) / static_cast<double>(op.dims));
    }
  }
  void turn_to(std::int32_t position, bool inverse) {
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double angle = position * frequencies[i];
      const auto cosine = static_cast<float>(std::cos(angle));
      const auto sine = static_cast<float>(inverse ? -std::sin(angle) : std::sin(angle));
      along[2 * i] = along[2 * i + 1] = cosine;
      across[2 * i] = -sine;
      across[2 * i + 1] = sine;
    }
  }
};

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Rotary& op, Tiles tiles) {
  const Tensor& x = frame[op.x];
  const std::int64_t count = frame[op.positions].count();
  const std::int64_t size = x.shape().last();
  const std::int64_t heads = features(x.shape()) / size;
  const std::int32_t* positions_M = frame[op.positions].data<std::int32_t>();
  const std::int64_t tasks = (count + rotary_tile - 1) / rotary_tile;
  with_storage(x.dtype(), [&]<class T>() {
    const T* x_MNH = x.data<T>();
    T* y_MNH = frame[op.y].data<T>();
    const auto turn =
        kernels_of(cpu.isa(), portable_elementwise, avx2_elementwise, avx512_elementwise)
            .of<T>()
            .turn;
    for_tasks(cpu.pool(), tasks, tiles, [&](std::int64_t task, int worker) {
      Turns turns(cpu.scratch(worker).data(), op);
      const std::int64_t end = std::min(count, (task + 1) * rotary_tile);
      for (std::int64_t t = task * rotary_tile; t < end; ++t) {
        turns.turn_to(positions_M[t], op.inverse);
        for (std::int64_t head = t * heads; head < (t + 1) * heads; ++head) {
          const T* from = x_MNH + head * size;
          T* to = y_MNH + head * size;
          turn(from, turns.along, turns.across, to, op.dims);
          std::copy(from + op.dims, from + size, to + op.dims);
        }
      }
    });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Rotary& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
