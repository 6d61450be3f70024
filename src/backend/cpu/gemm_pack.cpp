#include "backend/cpu/gemm_pack.h"

#include "backend/cpu/gemm.h"

namespace sluice {
const GemmKernel& gemm_kernel(Isa isa) {
#if defined(__x86_64__)
  isa = vector_isa(isa);
  if (isa == Isa::avx512) return avx512_gemm;
  if (isa == Isa::avx2) return avx2_gemm;
#endif
  static_cast<void>(isa);
  return portable_gemm;
}

void pack_panels(const GemmKernel& kernel, const float* src, std::int64_t ld, std::int64_t k,
                 std::int64_t n, bool transposed, std::int64_t stride, float* dst) {
  const std::int64_t whole = n / panel_columns;
  const std::int64_t rest = n % panel_columns;
  if (transposed) {
    for (std::int64_t p = 0; p < whole; ++p) {
      kernel.transpose(src + p * panel_columns * ld, ld, panel_columns, k, dst + p * stride);
    }
  } else {
    kernel.copy(src, ld, k, whole, panel_columns, stride, dst);
  }
  if (rest == 0) return;
  float* const last = dst + whole * stride;
  const float* const from = src + whole * panel_columns * (transposed ? ld : 1);
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < panel_columns; ++j) {
      last[i * panel_columns + j] = j >= rest    ? 0.0f
                                    : transposed ? from[j * ld + i]
                                                 : from[i * ld + j];
    }
  }
}

}  // namespace sluice
