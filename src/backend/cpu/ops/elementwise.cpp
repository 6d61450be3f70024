// Sums, scales, casts. All are bounded by the memory bandwidth: the kernels say their bytes. The
// casts have no kernels per instruction set: the compiler's loops reach the memory bandwidth to
// float32, and about a number per nanosecond and thread to bfloat16.
#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const ElementwiseKernels& kernels(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_elementwise, avx2_elementwise, avx512_elementwise);
}

template <class From, class To>
void cast(const From* x, To* y, std::int64_t n) {
  if constexpr (std::is_same_v<From, double> && std::is_same_v<To, bf16>) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = bf16(static_cast<float>(x[i]));
  } else if constexpr (std::is_same_v<From, bf16> && !std::is_same_v<To, bf16>) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<To>(static_cast<float>(x[i]));
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<To>(x[i]);
  }
}

template <class T>
constexpr bool is_real =
    std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16>;

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Add& op, Tiles tiles) {
  const float* a = frame[op.a].data<float>();
  const float* b = frame[op.b].data<float>();
  float* y = frame[op.y].data<float>();
  const auto add = kernels(cpu).add;
  for_tiles(cpu.pool(), frame[op.y].count(), element_tile, tiles,
            [=, &op](std::int64_t begin, std::int64_t end) {
              add(a + begin, b + begin, op.scale_b, y + begin, end - begin);
            });
}

void run(CpuBackend& cpu, const Frame& frame, const Scale& op, Tiles tiles) {
  const float* x = frame[op.x].data<float>();
  float* y = frame[op.y].data<float>();
  const auto scale = kernels(cpu).scale;
  for_tiles(cpu.pool(), frame[op.y].count(), element_tile, tiles,
            [=, &op](std::int64_t begin, std::int64_t end) {
              scale(x + begin, op.factor, y + begin, end - begin);
            });
}

// 4 + 2 bytes per element between float32 and bfloat16.
void run(CpuBackend& cpu, const Frame& frame, const Cast& op, Tiles tiles) {
  const Tensor& from = frame[op.x];
  const Tensor& to = frame[op.y];
  visit(from.dtype(), [&]<class From>() {
    visit(to.dtype(), [&]<class To>() {
      if constexpr (is_real<From> && is_real<To>) {
        const From* x = from.data<From>();
        To* y = to.data<To>();
        for_tiles(
            cpu.pool(), to.count(), element_tile, tiles,
            [=](std::int64_t begin, std::int64_t end) { cast(x + begin, y + begin, end - begin); });
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
  const auto add = kernels(cpu).add;
  for_tiles(cpu.pool(), frame[op.y].count(), element_tile, tiles,
            [=](std::int64_t begin, std::int64_t end) {
              add(y + begin, x + begin, 1.0f, y + begin, end - begin);
            });
}

void run(CpuBackend& cpu, const Frame& frame, const Add& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const Scale& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const Cast& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const AddInto& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
