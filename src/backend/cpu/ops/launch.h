// What launchers share: products on the backend's pool, and tasks that use a worker's scratch.
#pragma once

#include <type_traits>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_bf16.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {

// The product of operands that are stored as T, float or bf16.
template <class T>
using ProductOf = std::conditional_t<std::is_same_v<T, bf16>, GemmBf16, Gemm>;

// Products need some scratch per thread, far less than the workers have: no op's workspace holds
// it. This is all of it.
inline std::span<std::byte> product_scratch(CpuBackend& cpu) {
  const std::span<std::byte> last = cpu.scratch(cpu.pool().threads() - 1);
  std::byte* const begin = cpu.scratch(0).data();
  return {begin, static_cast<std::size_t>(last.data() + last.size() - begin)};
}

inline void multiply(CpuBackend& cpu, const Gemm& product) {
  gemm(cpu.pool(), cpu.isa(), product, product_scratch(cpu));
}
inline void multiply(CpuBackend& cpu, const GemmBf16& product) {
  gemm_bf16(cpu.pool(), cpu.isa(), product, product_scratch(cpu));
}

// Sends the product to `c`, C[0,0] being its element `at`; of float32 or, for bf16 operands, bf16.
inline void write_to(Gemm& product, const Tensor& c, std::int64_t at = 0) {
  product.c = c.data<float>() + at;
}
inline void write_to(GemmBf16& product, const Tensor& c, std::int64_t at = 0) {
  if (c.dtype() == DType::bf16) {
    product.c_bf16 = c.data<bf16>() + at;
  } else {
    product.c = c.data<float>() + at;
  }
}

// body(task, worker) for those `tiles` of `tasks`, where a task is one of an op's tiles.
template <class Body>
void for_tasks(Pool& pool, std::int64_t tasks, Tiles tiles, Body body) {
  const std::int64_t last = std::min(tiles.last, tasks);
  pool.run(std::max<std::int64_t>(last - tiles.first, 0),
           [&](std::int64_t task, int worker) { body(tiles.first + task, worker); });
}

}  // namespace sluice
