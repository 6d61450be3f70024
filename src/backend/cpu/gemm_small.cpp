#include "backend/cpu/gemm_small.h"

#include <algorithm>
#include <cassert>

#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_pack.h"

namespace sluice {

void pack_block(Isa isa, const float* src, std::int64_t ld, std::int64_t k, std::int64_t n,
                bool transposed, float* dst) {
  pack_panels(gemm_kernel(isa), src, ld, k, n, transposed, k * panel_columns, dst);
}

void block_gemm(Isa isa, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
                std::int64_t lda, const float* b_packed, float* c, std::int64_t ldc,
                bool accumulate, bool a_transposed) {
  assert(k <= gemm_block_k);
  const GemmKernel& kernel = gemm_kernel(isa);
  const std::int64_t panels = (n + panel_columns - 1) / panel_columns;
  alignas(64) float block[max_tile_rows * gemm_block_k + 16];
  for (std::int64_t row = 0; row < m;) {
    // The rows that are left, in even heights.
    const std::int64_t groups = (m - row + kernel.rows - 1) / kernel.rows;
    const int rows = static_cast<int>((m - row + groups - 1) / groups);
    if (a_transposed) {
      kernel.copy(a + row, lda, k, 1, rows, 0, block);
    } else {
      kernel.transpose(a + row * lda, lda, rows, k, block);
    }
    for (std::int64_t panel = 0; panel < panels;) {
      const std::int64_t wide = std::min<std::int64_t>(kernel.panels[rows], panels - panel);
      const std::int64_t column = panel * panel_columns;
      float* const to = c + row * ldc + column;
      kernel.tile[rows][wide](
          {.k = k,
           .a = block,
           .b = b_packed + panel * k * panel_columns,
           .panel_stride = k * panel_columns,
           .start = accumulate ? to : nullptr,
           .start_ld = ldc,
           .c = to,
           .ldc = ldc,
           .alpha = 1.0f,
           .columns = static_cast<int>(std::min(wide * panel_columns, n - column))});
      panel += wide;
    }
    row += rows;
  }
}

}  // namespace sluice
