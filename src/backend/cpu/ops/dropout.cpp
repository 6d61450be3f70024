// Dropout; the kernels are those of dropout_kernel.h.
#include <cstring>

#include "backend/cpu/ops/dropout_kernel.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const DropoutKernels& kernels(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_dropout, avx2_dropout, avx512_dropout);
}

// Nothing is dropped: the bytes of x.
void copy(CpuBackend& cpu, const Frame& frame, const Dropout& op, Tiles tiles) {
  const auto* x = static_cast<const std::byte*>(frame[op.x].raw());
  auto* y = static_cast<std::byte*>(frame[op.y].raw());
  const std::int64_t size = size_of(frame[op.x].dtype());
  for_tiles(cpu.pool(), frame[op.x].count(), element_tile, tiles,
            [=](std::int64_t begin, std::int64_t end) {
              std::memmove(y + begin * size, x + begin * size,
                           static_cast<std::size_t>((end - begin) * size));
            });
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Dropout& op, Tiles tiles) {
  if (op.key.rate == 0) return copy(cpu, frame, op, tiles);
  const Tensor& in = frame[op.x];
  const double* control = frame[op.control].data<double>();
  const auto step = static_cast<std::int64_t>(control[Control::step]);
  const std::int64_t row = in.count() / in.shape()[0].size;
  const auto first =
      static_cast<std::uint64_t>(control[Control::first_row]) * static_cast<std::uint64_t>(row);
  const DropoutMask mask{.seed = op.key.seed,
                         .stream = dropout_stream(op.key.stream, frame.layer, step),
                         .threshold = dropout_threshold(op.key.rate),
                         .scale = static_cast<float>(1 / (1 - static_cast<double>(op.key.rate)))};
  with_storage(in.dtype(), [&]<class T>() {
    const T* x = in.data<T>();
    T* y = frame[op.y].data<T>();
    const auto dropout = kernels(cpu).of(x);
    for_tiles(cpu.pool(), in.count(), element_tile, tiles,
              [=, &mask](std::int64_t begin, std::int64_t end) {
                dropout(mask, first + static_cast<std::uint64_t>(begin), x + begin, y + begin,
                        end - begin);
              });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Dropout& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
