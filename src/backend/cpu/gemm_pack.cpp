#include "backend/cpu/gemm_pack.h"

#include <array>
#include <cstring>
#include <utility>

#include "backend/cpu/gemm.h"

namespace sluice {
namespace {

using PackLines = void (*)(const float*, std::int64_t, std::int64_t, std::int64_t, float*);

// Line by line, so that src is read in order; a fixed size makes the copy a few register moves.
template <int rows>
void pack_lines_of(const float* src, std::int64_t ld, std::int64_t k, std::int64_t parts,
                   float* dst) {
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t part = 0; part < parts; ++part) {
      std::memcpy(dst + (part * k + i) * rows, src + i * ld + part * rows, rows * sizeof(float));
    }
  }
}

template <std::size_t... i>
constexpr std::array<PackLines, sizeof...(i)> pack_lines_table(std::index_sequence<i...>) {
  return {pack_lines_of<static_cast<int>(i) + 1>...};
}

}  // namespace

const GemmKernel& gemm_kernel(Isa isa) {
#if defined(__x86_64__)
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
    for (std::int64_t i = 0; i < k; ++i) {
      const float* line = src + i * ld;
      float* to = dst + i * panel_columns;
      for (std::int64_t p = 0; p < whole; ++p) {
        std::memcpy(to + p * stride, line + p * panel_columns, panel_columns * sizeof(float));
      }
    }
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

void pack_lines(const float* src, std::int64_t ld, std::int64_t k, std::int64_t parts, int rows,
                float* dst) {
  static constexpr auto table = pack_lines_table(std::make_index_sequence<max_tile_rows>());
  table[static_cast<std::size_t>(rows - 1)](src, ld, k, parts, dst);
}

}  // namespace sluice
