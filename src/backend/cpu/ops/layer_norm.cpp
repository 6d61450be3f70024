// Layer normalisation; the kernels are those of norm_kernel.h. Its gradient for gain and bias goes
// over chunks of tokens first, then adds the chunks' sums in ascending order.
#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/norm_kernel.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const NormKernels& kernels(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_norm, avx2_norm, avx512_norm);
}

const ElementwiseKernels& sums(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_elementwise, avx2_elementwise, avx512_elementwise);
}

// The numbers of an operand that may be absent.
float* numbers(const Frame& frame, Id id) {
  return frame.has(id) ? frame[id].data<float>() : nullptr;
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const LayerNorm& op, Tiles tiles) {
  const Tensor& in = frame[op.x];
  const std::int64_t n = in.cols();
  const float* gain = frame[op.gain].data<float>();
  const float* bias = numbers(frame, op.bias);
  float* mean = frame[op.mean].data<float>();
  float* rstd = frame[op.rstd].data<float>();
  with_storage(in.dtype(), [&]<class T>() {
    const T* x = in.data<T>();
    T* y = frame[op.y].data<T>();
    const auto norm = kernels(cpu).of<T>().norm;
    for_tiles(cpu.pool(), in.rows(), row_tile(n), tiles,
              [=, &op](std::int64_t begin, std::int64_t end) {
                norm(x + begin * n, gain, bias, op.eps, end - begin, n, y + begin * n, mean + begin,
                     rstd + begin);
              });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const ResidualNorm& op, Tiles tiles) {
  const Tensor& in = frame[op.a];
  const std::int64_t n = in.cols();
  const float* gain = frame[op.gain].data<float>();
  const float* bias = numbers(frame, op.bias);
  float* mean = frame[op.mean].data<float>();
  float* rstd = frame[op.rstd].data<float>();
  with_storage(in.dtype(), [&]<class T>() {
    const T* a = in.data<T>();
    const T* b = frame[op.b].data<T>();
    T* sum = frame[op.sum].data<T>();
    T* y = frame[op.y].data<T>();
    const auto norm = kernels(cpu).of<T>().residual_norm;
    for_tiles(cpu.pool(), in.rows(), row_tile(n), tiles,
              [=, &op](std::int64_t begin, std::int64_t end) {
                const std::int64_t at = begin * n;
                norm(a + at, b + at, op.scale_b, sum + at, gain, bias, op.eps, end - begin, n,
                     y + at, mean + begin, rstd + begin);
              });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const LayerNormGradInput& op, Tiles tiles) {
  const Tensor& in = frame[op.x];
  const std::int64_t n = in.cols();
  const float* gain = frame[op.gain].data<float>();
  const float* mean = frame[op.mean].data<float>();
  const float* rstd = frame[op.rstd].data<float>();
  with_storage(in.dtype(), [&]<class T>() {
    const T* x = in.data<T>();
    const T* dy = frame[op.dy].data<T>();
    T* dx = frame[op.dx].data<T>();
    const T* plus = frame.has(op.plus) ? frame[op.plus].data<T>() : nullptr;
    const auto grad = kernels(cpu).of<T>().grad_input;
    const auto add = sums(cpu).of<T>().add;
    for_tiles(cpu.pool(), in.rows(), row_tile(n), tiles, [=](std::int64_t begin, std::int64_t end) {
      const std::int64_t at = begin * n;
      grad(x + at, gain, mean + begin, rstd + begin, dy + at, end - begin, n, dx + at);
      if (plus != nullptr) add(plus + at, dx + at, 1, dx + at, (end - begin) * n);
    });
  });
}

// Workspace: [chunks, 2, n] partial sums, dgain's and dbias's.
void run(CpuBackend& cpu, const Frame& frame, const LayerNormGradWeight& op, Tiles tiles) {
  const Tensor& in = frame[op.x];
  const std::int64_t n = in.cols();
  const std::int64_t chunks = (in.rows() + token_chunk - 1) / token_chunk;
  const float* mean = frame[op.mean].data<float>();
  const float* rstd = frame[op.rstd].data<float>();
  float* dgain = numbers(frame, op.dgain);
  float* dbias = numbers(frame, op.dbias);
  float* parts = workspace<float>(frame, chunks * 2 * n);
  const NormKernels& kernel = kernels(cpu);
  with_storage(in.dtype(), [&]<class T>() {
    const T* x = in.data<T>();
    const T* dy = frame[op.dy].data<T>();
    const auto grad = kernel.of<T>().grad_weight;
    for_tiles(cpu.pool(), in.rows(), token_chunk, tiles, [=](std::int64_t begin, std::int64_t end) {
      float* part = parts + begin / token_chunk * 2 * n;
      grad(x + begin * n, mean + begin, rstd + begin, dy + begin * n, end - begin, n,
           dgain == nullptr ? nullptr : part, dbias == nullptr ? nullptr : part + n);
    });
  });
  constexpr std::int64_t strip = 128;  // columns: eight cache lines of a row at a time
  const bool first = frame.first;
  for_tiles(cpu.pool(), n, strip, {}, [=, &kernel](std::int64_t begin, std::int64_t end) {
    if (dgain != nullptr) {
      kernel.join(parts + begin, chunks, 2 * n, end - begin, first, dgain + begin);
    }
    if (dbias != nullptr) {
      kernel.join(parts + n + begin, chunks, 2 * n, end - begin, first, dbias + begin);
    }
  });
}

void run(CpuBackend& cpu, const Frame& frame, const LayerNorm& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const ResidualNorm& op) {
  run(cpu, frame, op, Tiles{});
}
void run(CpuBackend& cpu, const Frame& frame, const LayerNormGradInput& op) {
  run(cpu, frame, op, Tiles{});
}
void run(CpuBackend& cpu, const Frame& frame, const LayerNormGradWeight& op) {
  run(cpu, frame, op, Tiles{});
}

}  // namespace sluice
