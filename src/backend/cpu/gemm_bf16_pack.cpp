#include "backend/cpu/gemm_bf16_pack.h"

#include <algorithm>

#include "backend/cpu/gemm_bf16.h"

namespace sluice {

const Bf16Kernel& gemm_bf16_kernel(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::portable:
      return portable_gemm_bf16;
    case Isa::avx2:
      return avx2_gemm_bf16;
    case Isa::avx512:
      return avx512_gemm_bf16;
    case Isa::avx512_bf16:
      return avx512_bf16_gemm_bf16;
    case Isa::amx:
      return amx_gemm_bf16;
  }
#endif
  static_cast<void>(isa);
  return portable_gemm_bf16;
}

void pack_panels_bf16(const Bf16Kernel& kernel, const Half* src, std::int64_t ld, std::int64_t k,
                      std::int64_t n, bool transposed, std::int64_t stride, Half* dst, bool past) {
  if (!transposed) {
    const auto interleave = past ? kernel.interleave_past : kernel.interleave;
    interleave(src, ld, k, n, panel_columns, stride, dst);
    return;
  }
  const auto transpose = past ? kernel.transpose_past : kernel.transpose;
  for (std::int64_t j = 0; j < n; j += panel_columns) {
    transpose(src + j * ld, ld, k, static_cast<int>(std::min(panel_columns, n - j)), panel_columns,
              dst + j / panel_columns * stride * 2);
  }
}

std::int64_t packed_bf16_count(std::int64_t k, std::int64_t n) {
  return (n + panel_columns - 1) / panel_columns * panel_columns * (k + k % 2);
}

void pack_b_bf16(Pool& pool, std::int64_t k, std::int64_t n, const bf16* src, std::int64_t ld,
                 bool transposed, bf16* dst, std::int64_t first, std::int64_t last) {
  // A copy: the instruction set is free.
  const Bf16Kernel& kernel = gemm_bf16_kernel(best_isa());
  constexpr std::int64_t rows = 512, columns = 8 * panel_columns;
  const std::int64_t even_k = k + k % 2;
  const std::int64_t blocks = (k + rows - 1) / rows;
  const std::int64_t tiles = std::min(last, (n + columns - 1) / columns * blocks);
  const Half* const from = halves_of(src);
  Half* const to = halves_of(dst);
  const bool past =
      kernel.interleave_past != nullptr && reinterpret_cast<std::uintptr_t>(to) % 64 == 0;
  pool.run(std::max<std::int64_t>(tiles - first, 0), [&](std::int64_t task, int) {
    const std::int64_t column = (first + task) / blocks * columns;
    const std::int64_t row = (first + task) % blocks * rows;
    pack_panels_bf16(kernel, transposed ? from + column * ld + row : from + row * ld + column, ld,
                     std::min(rows, k - row), std::min(columns, n - column), transposed,
                     even_k / 2 * panel_columns, to + column * even_k + row * panel_columns, past);
  });
}

}  // namespace sluice
