// What launchers share: products on the backend's pool, and tasks that use a worker's scratch.
#pragma once

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {

// gemm() needs some scratch per thread, far less than the workers have: no op's workspace holds it.
inline void multiply(CpuBackend& cpu, const Gemm& product) {
  const std::span<std::byte> last = cpu.scratch(cpu.pool().threads() - 1);
  std::byte* const begin = cpu.scratch(0).data();
  const auto size = static_cast<std::size_t>(last.data() + last.size() - begin);
  gemm(cpu.pool(), cpu.isa(), product, {begin, size});
}

// body(task, worker) for those `tiles` of `tasks`, where a task is one of an op's tiles.
template <class Body>
void for_tasks(Pool& pool, std::int64_t tasks, Tiles tiles, Body body) {
  const std::int64_t last = std::min(tiles.last, tasks);
  pool.run(std::max<std::int64_t>(last - tiles.first, 0),
           [&](std::int64_t task, int worker) { body(tiles.first + task, worker); });
}

}  // namespace sluice
