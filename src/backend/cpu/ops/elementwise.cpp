// Sums, scales, casts. All are bounded by the memory bandwidth: the kernels say their bytes. Casts
// between float32 and bf16 have kernels; those with float64, which only tests and tools need, are
// the compiler's loops.
#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const ElementwiseKernels& kernels(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_elementwise, avx2_elementwise, avx512_elementwise);
}

template <class T>
constexpr bool is_real =
    std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16>;

template <class From, class To>
void cast(const ElementwiseKernels& kernel, const From* x, To* y, std::int64_t n) {
  if constexpr (std::is_same_v<From, float> && std::is_same_v<To, bf16>) {
    kernel.to_bf16(x, y, n);
  } else if constexpr (std::is_same_v<From, bf16> && std::is_same_v<To, float>) {
    kernel.to_f32(x, y, n);
  } else if constexpr (std::is_same_v<From, To>) {
    std::copy_n(x, n, y);
  } else if constexpr (std::is_same_v<To, bf16>) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = bf16(static_cast<float>(x[i]));
  } else if constexpr (std::is_same_v<From, bf16>) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<To>(static_cast<float>(x[i]));
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<To>(x[i]);
  }
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Add& op, Tiles tiles) {
  with_storage(frame[op.y].dtype(), [&]<class T>() {
    const T* a = frame[op.a].data<T>();
    const T* b = frame[op.b].data<T>();
    T* y = frame[op.y].data<T>();
    const auto add = kernels(cpu).of<T>().add;
    for_tiles(cpu.pool(), frame[op.y].count(), element_tile, tiles,
              [=, &op](std::int64_t begin, std::int64_t end) {
                add(a + begin, b + begin, op.scale_b, y + begin, end - begin);
              });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Scale& op, Tiles tiles) {
  with_storage(frame[op.y].dtype(), [&]<class T>() {
    const T* x = frame[op.x].data<T>();
    T* y = frame[op.y].data<T>();
    const auto scale = kernels(cpu).of<T>().scale;
    for_tiles(cpu.pool(), frame[op.y].count(), element_tile, tiles,
              [=, &op](std::int64_t begin, std::int64_t end) {
                scale(x + begin, op.factor, y + begin, end - begin);
              });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Cast& op, Tiles tiles) {
  const Tensor& from = frame[op.x];
  const Tensor& to = frame[op.y];
  const ElementwiseKernels& kernel = kernels(cpu);
  visit(from.dtype(), [&]<class From>() {
    visit(to.dtype(), [&]<class To>() {
      if constexpr (is_real<From> && is_real<To>) {
        const From* x = from.data<From>();
        To* y = to.data<To>();
        for_tiles(cpu.pool(), to.count(), element_tile, tiles,
                  [=, &kernel](std::int64_t begin, std::int64_t end) {
                    cast(kernel, x + begin, y + begin, end - begin);
                  });
      } else {
        throw Error(fmt::format("cast from {} to {}: there is no such kernel",
                                name_of(from.dtype()), name_of(to.dtype())));
      }
    });
  });
}

void run(CpuBackend& cpu, const Frame& frame, const AddInto& op, Tiles tiles) {
  const float* x = frame[op.x].data<float>();
  float* y = frame[op.y].data<float>();
  const auto add_to = kernels(cpu).f32.add_to;
  for_tiles(
      cpu.pool(), frame[op.y].count(), element_tile, tiles,
      [=](std::int64_t begin, std::int64_t end) { add_to(x + begin, y + begin, end - begin); });
}

void run(CpuBackend& cpu, const Frame& frame, const Add& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const Scale& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const Cast& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const AddInto& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
