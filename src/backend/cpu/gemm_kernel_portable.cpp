// The register tile in plain C++: what the other instruction sets must equal bit by bit. Without a
// fused multiply-add in the compiler's target, std::fma is a library call: right, and slow.
#include <cmath>

#include "backend/cpu/gemm_kernel.h"

namespace sluice {
namespace {

template <int rows>
void tile(const GemmTile& t) {
  float sum[rows][16] = {};
  for (std::int64_t k = 0; k < t.k; ++k) {
    for (int r = 0; r < rows; ++r) {
      for (int j = 0; j < t.columns; ++j) {
        sum[r][j] = std::fma(t.a[k * rows + r], t.b[k * 16 + j], sum[r][j]);
      }
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < t.columns; ++j) {
      const float start = t.start == nullptr ? 0.0f : t.start[r * t.start_ld + j];
      t.c[r * t.ldc + j] = std::fma(t.alpha, sum[r][j], start);
    }
  }
}

void transpose(const float* src, std::int64_t ld, int rows, std::int64_t k, float* dst) {
  for (int r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < k; ++i) dst[i * rows + r] = src[r * ld + i];
  }
}

void copy(const float* src, std::int64_t ld, std::int64_t k, std::int64_t parts, int rows,
          std::int64_t stride, float* dst) {
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t part = 0; part < parts; ++part) {
      for (int r = 0; r < rows; ++r) {
        dst[part * stride + i * rows + r] = src[i * ld + part * rows + r];
      }
    }
  }
}

}  // namespace

const GemmKernel portable_gemm = {
    .rows = 4,
    .panels = {0, 1, 1, 1, 1},
    .tile = {{}, {nullptr, tile<1>}, {nullptr, tile<2>}, {nullptr, tile<3>}, {nullptr, tile<4>}},
    .transpose = transpose,
    .copy = copy,
};

}  // namespace sluice
