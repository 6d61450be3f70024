// bf16 products in plain C++: the float32 register tile over widened operands.
#include <bit>

#include "backend/cpu/gemm_bf16_kernel.h"

namespace sluice {
namespace {

void tile(const GemmTile& t, int rows, int panels) { portable_gemm.tile[rows][panels](t); }

void interleave(const Half* src, std::int64_t ld, std::int64_t k, std::int64_t columns, int width,
                std::int64_t stride, Half* dst) {
  const std::int64_t padded = (columns + width - 1) / width * width;
  for (std::int64_t i = 0; i < k + k % 2; ++i) {
    for (std::int64_t j = 0; j < padded; ++j) {
      dst[(j / width * stride + i / 2 * width + j % width) * 2 + i % 2] =
          i < k && j < columns ? src[i * ld + j] : Half{0};
    }
  }
}

void transpose(const Half* src, std::int64_t ld, std::int64_t k, int columns, int width,
               Half* dst) {
  for (int j = 0; j < width; ++j) {
    for (std::int64_t i = 0; i < k + k % 2; ++i) {
      dst[(i / 2 * width + j) * 2 + i % 2] = i < k && j < columns ? src[j * ld + i] : Half{0};
    }
  }
}

void widen(const Half* words, std::int64_t count, int width, float* dst) {
  for (std::int64_t p = 0; p < count; ++p) {
    for (int j = 0; j < width; ++j) {
      for (int i = 0; i < 2; ++i) {
        dst[(2 * p + i) * width + j] =
            std::bit_cast<float>(static_cast<std::uint32_t>(words[(p * width + j) * 2 + i]) << 16);
      }
    }
  }
}

void round(const float* from, std::int64_t count, Half* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(from[i]);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to[i] = static_cast<Half>((nan ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  }
}

}  // namespace

const Bf16Kernel portable_gemm_bf16 = {
    .block_k = 256,
    .rows = 4,
    .group = 0,
    .panels = {0, 1, 1, 1, 1},
    .tile = tile,
    .begin = nullptr,
    .end = nullptr,
    .interleave = interleave,
    .transpose = transpose,
    .interleave_past = nullptr,
    .transpose_past = nullptr,
    .tiles_of_rows = nullptr,
    .tiles_of_panels = nullptr,
    .widen = widen,
    .round = round,
};

}  // namespace sluice
