// GELU in both forms; the kernels are those of elementwise_kernel.h.
#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const ElementwiseKernels& kernels(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_elementwise, avx2_elementwise, avx512_elementwise);
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Gelu& op, Tiles tiles) {
  const float* x = frame[op.x].data<float>();
  float* y = frame[op.y].data<float>();
  const auto gelu = op.form == GeluForm::tanh ? kernels(cpu).gelu_tanh : kernels(cpu).gelu_exact;
  for_tiles(cpu.pool(), frame[op.y].count(), element_tile, tiles,
            [=](std::int64_t begin, std::int64_t end) { gelu(x + begin, y + begin, end - begin); });
}

void run(CpuBackend& cpu, const Frame& frame, const GeluGrad& op, Tiles tiles) {
  const float* x = frame[op.x].data<float>();
  const float* dy = frame[op.dy].data<float>();
  float* dx = frame[op.dx].data<float>();
  const auto grad =
      op.form == GeluForm::tanh ? kernels(cpu).gelu_tanh_grad : kernels(cpu).gelu_exact_grad;
  for_tiles(cpu.pool(), frame[op.dx].count(), element_tile, tiles,
            [=](std::int64_t begin, std::int64_t end) {
              grad(x + begin, dy + begin, dx + begin, end - begin);
            });
}

void run(CpuBackend& cpu, const Frame& frame, const Gelu& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const GeluGrad& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
