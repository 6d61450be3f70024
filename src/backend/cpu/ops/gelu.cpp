// GELU in both forms; the kernels are those of elementwise_kernel.h.
#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const ElementwiseKernels& kernels(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_elementwise, avx2_elementwise, avx512_elementwise);
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Gelu& op, Tiles tiles) {
  with_storage(frame[op.y].dtype(), [&]<class T>() {
    const T* x = frame[op.x].data<T>();
    T* y = frame[op.y].data<T>();
    const StreamKernels<T>& kernel = kernels(cpu).of<T>();
    const auto gelu = op.form == GeluForm::tanh ? kernel.gelu_tanh : kernel.gelu_exact;
    for_tiles(
        cpu.pool(), frame[op.y].count(), element_tile, tiles,
        [=](std::int64_t begin, std::int64_t end) { gelu(x + begin, y + begin, end - begin); });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const GeluGrad& op, Tiles tiles) {
  with_storage(frame[op.dx].dtype(), [&]<class T>() {
    const T* x = frame[op.x].data<T>();
    const T* dy = frame[op.dy].data<T>();
    T* dx = frame[op.dx].data<T>();
    const StreamKernels<T>& kernel = kernels(cpu).of<T>();
    const auto grad = op.form == GeluForm::tanh ? kernel.gelu_tanh_grad : kernel.gelu_exact_grad;
    for_tiles(cpu.pool(), frame[op.dx].count(), element_tile, tiles,
              [=](std::int64_t begin, std::int64_t end) {
                grad(x + begin, dy + begin, dx + begin, end - begin);
              });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Gelu& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const GeluGrad& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
