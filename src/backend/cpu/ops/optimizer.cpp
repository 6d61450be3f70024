// The end of a step: gradients rounded, norms, the pending update, AdamW, averages of weights.
// Kernels in optimizer_kernel.h.
#include "backend/cpu/ops/optimizer_kernel.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"
#include "ops/optimizer/formats.h"

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

std::uint16_t* halves(const Tensor& tensor) {
  return reinterpret_cast<std::uint16_t*>(tensor.data<bf16>());
}

// body(numbers, begin, end) for the stretches of [begin, end) that lie in one part.
template <class Body>
void for_parts(const AdamW& op, const AdamWNumbers* numbers, std::int64_t begin, std::int64_t end,
               Body body) {
  while (begin < end) {
    const std::int64_t index = op.parts == 1 ? 0 : begin / op.parts_inner;
    const std::int64_t stop = op.parts == 1 ? end : std::min(end, (index + 1) * op.parts_inner);
    body(numbers[index % op.parts], begin, stop);
    begin = stop;
  }
}

void run_compact(CpuBackend& cpu, const Frame& frame, const AdamW& op, const AdamWNumbers* numbers,
                 Tiles tiles) {
  const Tensor& w = frame[op.w];
  const auto step = static_cast<std::int64_t>(frame[op.pending].data<double>()[Pending::step]);
  const CompactTensor tensor{.w = halves(w),
                             .g = frame[op.g].data<float>(),
                             .m = frame[op.m].data<std::uint8_t>(),
                             .v = frame[op.v].data<std::uint8_t>(),
                             .m_scale = frame[op.m_scale].data<float>(),
                             .v_scale = frame[op.v_scale].data<float>(),
                             .row = w.count() / w.shape()[0].size,
                             .blocks = row_blocks(w.shape()),
                             .numbers = numbers,
                             .parts = op.parts,
                             .parts_inner = op.parts_inner,
                             .seed = op.seed,
                             .stream = dropout_stream(op.stream, frame.layer, step)};
  const auto adamw = kernels(cpu).adamw_compact;
  for_tiles(cpu.pool(), state_blocks(w.shape()), block_tile, tiles,
            [&](std::int64_t first, std::int64_t last) { adamw(tensor, first, last); });
}

Int8Tensor int8_tensor(const Frame& frame, Id g, Id codes, Id scales) {
  const Tensor& gradient = frame[g];
  Int8Tensor out{.g = gradient.data<float>(),
                 .codes = nullptr,
                 .scales = nullptr,
                 .row = gradient.count() / gradient.shape()[0].size,
                 .blocks = row_blocks(gradient.shape()),
                 .seed = 0,
                 .stream = 0};
  if (!frame.has(codes)) return out;
  out.codes = reinterpret_cast<std::int8_t*>(frame[codes].data<std::uint8_t>());
  out.scales = frame[scales].data<float>();
  return out;
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
  const bool judged = op.spikes != no_value && finite;
  const int skipped = judged ? judge_spike(frame[op.spikes].data<double>(), loss, norm,
                                           op.deviations, [](double x) { return std::sqrt(x); })
                             : 0;
  pending[Pending::lr] = control[Control::lr];
  pending[Pending::step] = control[Control::step];
  pending[Pending::scale] = (clips ? op.clip / norm : 1.0) / weight;
  pending[Pending::apply] = finite && skipped == 0 ? 1 : 0;

  const auto step = static_cast<std::int64_t>(control[Control::step]);
  double* row = frame[op.results].data<double>() + step % 2 * Results::slots;
  row[Results::loss] = loss;
  row[Results::grad_norm] = norm;
  row[Results::weight] = weight;
  row[Results::finite] = finite ? 1 : 0;
  row[Results::step] = control[Control::step];
  row[Results::bad] = bad;
  row[Results::skipped] = skipped;
}

void run(CpuBackend& cpu, const Frame& frame, const AdamW& op, Tiles tiles) {
  const double* pending = frame[op.pending].data<double>();
  if (pending[Pending::apply] == 0) return;
  AdamWNumbers numbers[3];
  for (int i = 0; i < op.parts; ++i) numbers[i] = adamw_numbers(op, op.part[i], pending);
  if (frame.has(op.m_scale)) return run_compact(cpu, frame, op, numbers, tiles);
  const Tensor& weight = frame[op.w];
  const float* g = frame[op.g].data<float>();
  float* m = frame[op.m].data<float>();
  float* v = frame[op.v].data<float>();
  const OptimizerKernels& kernel = kernels(cpu);
  const auto update = [&](auto body) {
    for_tiles(
        cpu.pool(), weight.count(), element_tile, tiles,
        [&](std::int64_t begin, std::int64_t end) { for_parts(op, numbers, begin, end, body); });
  };
  if (frame.has(op.low)) {
    std::uint16_t* w = halves(weight);
    auto* low = frame[op.low].data<std::int16_t>();
    update([=, &kernel](const AdamWNumbers& a, std::int64_t i, std::int64_t end) {
      kernel.adamw_exact(a, g + i, w + i, low + i, m + i, v + i, end - i);
    });
  } else {
    float* w = weight.data<float>();
    update([=, &kernel](const AdamWNumbers& a, std::int64_t i, std::int64_t end) {
      kernel.adamw(a, g + i, w + i, m + i, v + i, end - i);
    });
  }
}

void run(CpuBackend& cpu, const Frame& frame, const RoundGradient& op, Tiles tiles) {
  const Tensor& gradient = frame[op.g];
  float* g = gradient.data<float>();
  const OptimizerKernels& kernel = kernels(cpu);
  switch (op.format) {
    case GradientFormat::f32:
      return;
    case GradientFormat::bf16:
      return for_tiles(
          cpu.pool(), gradient.count(), element_tile, tiles,
          [&](std::int64_t begin, std::int64_t end) { kernel.round_bf16(g + begin, end - begin); });
    case GradientFormat::int8:
      const auto step = static_cast<std::int64_t>(frame[op.control].data<double>()[Control::step]);
      Int8Tensor tensor = int8_tensor(frame, op.g, op.codes, op.scales);
      tensor.seed = op.seed;
      tensor.stream = dropout_stream(op.stream, frame.layer, step);
      return for_tiles(
          cpu.pool(), state_blocks(gradient.shape()), block_tile, tiles,
          [&](std::int64_t first, std::int64_t last) { kernel.round_int8(tensor, first, last); });
  }
}

void run(CpuBackend& cpu, const Frame& frame, const RestoreGradient& op, Tiles tiles) {
  const Int8Tensor tensor = int8_tensor(frame, op.g, op.codes, op.scales);
  const auto restore = kernels(cpu).restore_int8;
  for_tiles(cpu.pool(), state_blocks(frame[op.g].shape()), block_tile, tiles,
            [&](std::int64_t first, std::int64_t last) { restore(tensor, first, last); });
}

void run(CpuBackend& cpu, const Frame& frame, const Ema& op, Tiles tiles) {
  if (frame[op.pending].data<double>()[Pending::apply] == 0) return;
  const Tensor& weight = frame[op.w];
  float* average = frame[op.average].data<float>();
  const float rest = static_cast<float>(1 - static_cast<double>(op.decay));
  const OptimizerKernels& kernel = kernels(cpu);
  const bool coded = weight.dtype() == DType::bf16;
  const std::int16_t* low = frame.has(op.low) ? frame[op.low].data<std::int16_t>() : nullptr;
  for_tiles(cpu.pool(), weight.count(), element_tile, tiles, [&](std::int64_t i, std::int64_t end) {
    if (coded) {
      kernel.ema_coded(op.decay, rest, halves(weight) + i, low ? low + i : low, average + i,
                       end - i);
    } else {
      kernel.ema(op.decay, rest, weight.data<float>() + i, average + i, end - i);
    }
  });
}

void run(CpuBackend& cpu, const Frame& frame, const SquaredNorm& op) {
  run(cpu, frame, op, Tiles{});
}
void run(CpuBackend& cpu, const Frame& frame, const AdamW& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const RoundGradient& op) {
  run(cpu, frame, op, Tiles{});
}
void run(CpuBackend& cpu, const Frame& frame, const RestoreGradient& op) {
  run(cpu, frame, op, Tiles{});
}
void run(CpuBackend& cpu, const Frame& frame, const Ema& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
