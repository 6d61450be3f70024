// The end of a step: norms, the pending update, AdamW. Kernels in optimizer_kernel.h.
#include "backend/cpu/ops/optimizer_kernel.h"

#include <cmath>

#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const OptimizerKernels& kernels(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_optimizer, avx2_optimizer, avx512_optimizer);
}

// baseᵗ by products alone, so that the bits do not hang on a mathematics library.
double power(double base, std::int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

AdamWNumbers adamw_numbers(const AdamW& op, const AdamWPart& part, const double* pending) {
  const auto step = static_cast<std::int64_t>(pending[Pending::step]);
  const double beta1 = op.beta1, beta2 = op.beta2;
  const auto f = [](double x) { return static_cast<float>(x); };
  return {.scale = f(pending[Pending::scale]),
          .beta1 = op.beta1,
          .rest1 = f(1 - beta1),
          .beta2 = op.beta2,
          .rest2 = f(1 - beta2),
          .correct1 = f(1 / (1 - power(beta1, step))),
          .correct2 = f(1 / (1 - power(beta2, step))),
          .lr = f(pending[Pending::lr] * part.lr),
          .decay = part.decay,
          .eps = part.eps};
}

}  // namespace

// Workspace: one partial sum per chunk.
void run(CpuBackend& cpu, const Frame& frame, const SquaredNorm& op, Tiles tiles) {
  const std::int64_t count = frame[op.x].count();
  const std::int64_t chunks = (count + norm_chunk - 1) / norm_chunk;
  const float* x = frame[op.x].data<float>();
  double* parts = workspace<double>(frame, chunks);
  const auto squared_norm = kernels(cpu).squared_norm;
  for_tiles(cpu.pool(), count, norm_chunk, tiles, [=](std::int64_t begin, std::int64_t end) {
    parts[begin / norm_chunk] = squared_norm(x + begin, end - begin);
  });
  double sum = 0;
  for (std::int64_t i = 0; i < chunks; ++i) sum += parts[i];
  frame[op.norms].data<double>()[op.index] = sum;
}

void run(CpuBackend&, const Frame& frame, const FinishStep& op) {
  const double* stats = frame[op.stats].data<double>();
  const double* control = frame[op.control].data<double>();
  double* pending = frame[op.pending].data<double>();
  double squares = 0;
  double bad = -1;
  const std::span<const double> norms = frame[op.norms].values<double>();
  for (std::size_t i = 0; i < norms.size(); ++i) {
    squares += norms[i];
    if (bad < 0 && !std::isfinite(norms[i])) bad = static_cast<double>(i);
  }
  const double weight = stats[1];
  const double loss = stats[0] / weight;
  const double norm = std::sqrt(squares) / weight;
  const bool finite = std::isfinite(loss) && std::isfinite(norm);
  const bool clips = op.clip > 0 && norm > op.clip;
  pending[Pending::lr] = control[Control::lr];
  pending[Pending::step] = control[Control::step];
  pending[Pending::scale] = (clips ? op.clip / norm : 1.0) / weight;
  pending[Pending::apply] = finite ? 1 : 0;

  const auto step = static_cast<std::int64_t>(control[Control::step]);
  double* row = frame[op.results].data<double>() + step % 2 * Results::slots;
  row[Results::loss] = loss;
  row[Results::grad_norm] = norm;
  row[Results::weight] = weight;
  row[Results::finite] = finite ? 1 : 0;
  row[Results::step] = control[Control::step];
  row[Results::bad] = bad;
}

void run(CpuBackend& cpu, const Frame& frame, const AdamW& op, Tiles tiles) {
  const double* pending = frame[op.pending].data<double>();
  if (pending[Pending::apply] == 0) return;
  AdamWNumbers numbers[3];
  for (int i = 0; i < op.parts; ++i) numbers[i] = adamw_numbers(op, op.part[i], pending);
  const std::int64_t count = frame[op.w].count();
  const float* g = frame[op.g].data<float>();
  float* w = frame[op.w].data<float>();
  float* m = frame[op.m].data<float>();
  float* v = frame[op.v].data<float>();
  const auto adamw = kernels(cpu).adamw;
  for_tiles(cpu.pool(), count, element_tile, tiles, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {  // one stretch of one part at a time
      const std::int64_t index = op.parts == 1 ? 0 : begin / op.parts_inner;
      const std::int64_t stop = op.parts == 1 ? end : std::min(end, (index + 1) * op.parts_inner);
      adamw(numbers[index % op.parts], g + begin, w + begin, m + begin, v + begin, stop - begin);
      begin = stop;
    }
  });
}

void run(CpuBackend& cpu, const Frame& frame, const SquaredNorm& op) {
  run(cpu, frame, op, Tiles{});
}
void run(CpuBackend& cpu, const Frame& frame, const AdamW& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
