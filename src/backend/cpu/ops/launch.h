// What launchers share: a product on the backend's pool, with the workers' scratch as its memory.
#pragma once

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"

namespace sluice {

// gemm() needs some scratch per thread, far less than the workers have: no op's workspace holds it.
inline void multiply(CpuBackend& cpu, const Gemm& product) {
  const std::span<std::byte> last = cpu.scratch(cpu.pool().threads() - 1);
  std::byte* const begin = cpu.scratch(0).data();
  const auto size = static_cast<std::size_t>(last.data() + last.size() - begin);
  gemm(cpu.pool(), cpu.isa(), product, {begin, size});
}

}  // namespace sluice
