// Launchers of the end of a step; kernels in kernels/optimizer.cu.
#include "backend/cuda/kernels/optimizer.h"

#include "backend/cuda/ops/ops.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

gpu::Drawn drawn(const Frame& frame, const Shape& shape, std::uint64_t seed, std::uint64_t stream) {
  return {.rows = shape[0].size,
          .row = shape.count() / shape[0].size,
          .blocks = row_blocks(shape),
          .seed = seed,
          .stream = stream,
          .layer = frame.layer};
}

gpu::AdamWParts parts_of(const AdamW& op) {
  gpu::AdamWParts out{
      .parts = op.parts, .inner = op.parts_inner, .beta1 = op.beta1, .beta2 = op.beta2};
  for (int i = 0; i < 3; ++i)
    out.lr[i] = op.part[i].lr, out.decay[i] = op.part[i].decay, out.eps[i] = op.part[i].eps;
  return out;
}

}  // namespace

void run(CudaBackend& gpu, const Frame& frame, const RoundGradient& op) {
  const Tensor& g = frame[op.g];
  if (op.format == GradientFormat::bf16) gpu::round_bf16(gpu.stream(), g.data<float>(), g.count());
  if (op.format == GradientFormat::int8)
    gpu::round_int8(gpu.stream(), g.data<float>(), drawn(frame, g.shape(), op.seed, op.stream),
                    frame[op.control].data<double>(), data_or_null<std::uint8_t>(frame, op.codes),
                    data_or_null<float>(frame, op.scales));
}

void run(CudaBackend& gpu, const Frame& frame, const RestoreGradient& op) {
  const Tensor& g = frame[op.g];
  const Shape& shape = g.shape();
  gpu::restore_int8(gpu.stream(), frame[op.codes].data<std::uint8_t>(),
                    frame[op.scales].data<float>(), g.data<float>(), shape[0].size,
                    shape.count() / shape[0].size, row_blocks(shape));
}

void run(CudaBackend& gpu, const Frame& frame, const SquaredNorm& op) {
  const std::int64_t count = frame[op.x].count();
  gpu::squared_norm(
      gpu.stream(), frame[op.x].data<float>(), count,
      gpu.scratch<double>((count + gpu::squared_norm_chunk - 1) / gpu::squared_norm_chunk),
      frame[op.norms].data<double>() + op.index);
}

void run(CudaBackend& gpu, const Frame& frame, const FinishStep& op) {
  static_assert(Results::slots == 7);
  gpu::finish_step(gpu.stream(), {.stats = frame[op.stats].data<double>(),
                                  .norms = frame[op.norms].data<double>(),
                                  .control = frame[op.control].data<double>(),
                                  .pending = frame[op.pending].data<double>(),
                                  .results = frame[op.results].data<double>(),
                                  .spikes = data_or_null<double>(frame, op.spikes),
                                  .tensors = frame[op.norms].count(),
                                  .clip = op.clip,
                                  .deviations = op.deviations});
}

void run(CudaBackend& gpu, const Frame& frame, const AdamW& op) {
  const Tensor& w = frame[op.w];
  const gpu::AdamWState state{.w = w.raw(),
                              .low = data_or_null<std::int16_t>(frame, op.low),
                              .g = frame[op.g].data<float>(),
                              .m = frame[op.m].raw(),
                              .v = frame[op.v].raw(),
                              .m_scale = data_or_null<float>(frame, op.m_scale),
                              .v_scale = data_or_null<float>(frame, op.v_scale),
                              .pending = frame[op.pending].data<double>()};
  if (frame.has(op.m_scale))
    gpu::adamw_compact(gpu.stream(), state, parts_of(op),
                       drawn(frame, w.shape(), op.seed, op.stream));
  else
    gpu::adamw(gpu.stream(), state, parts_of(op), w.count());
}

void run(CudaBackend& gpu, const Frame& frame, const Ema& op) {
  const Tensor& w = frame[op.w];
  gpu::ema(gpu.stream(), w.raw(), w.dtype() == DType::bf16,
           data_or_null<std::int16_t>(frame, op.low), frame[op.average].data<float>(),
           frame[op.pending].data<double>(), op.decay, w.count());
}

}  // namespace sluice
