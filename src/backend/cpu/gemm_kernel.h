// The part of gemm() that exists once per instruction set: register tiles and register transposes.
//
// Files of one instruction set include this header and <immintrin.h> and nothing else: a template
// or inline function that they shared with other files might be linked in their version everywhere.
#pragma once

#include <cstdint>

namespace sluice {

// One register tile, one K block: C[rows, columns] = start + alpha · A · B.
struct GemmTile {
  std::int64_t k;
  const float* a;             // [k][rows]
  const float* b;             // panels [k][16]
  std::int64_t panel_stride;  // floats between panels
  const float* start;         // start[row * start_ld + column]; null: zeros
  std::int64_t start_ld;      // 0 for a bias
  float* c;
  std::int64_t ldc;
  float alpha;
  int columns;  // 16 * (panels - 1) < columns <= 16 * panels
};

constexpr int max_tile_rows = 16;
constexpr int max_tile_panels = 4;

struct GemmKernel {
  using Tile = void (*)(const GemmTile&);
  int rows;                                           // the most rows of a tile
  int panels[max_tile_rows + 1];                      // the most panels of a tile with so many rows
  Tile tile[max_tile_rows + 1][max_tile_panels + 1];  // [rows][panels]
  // dst[i * rows + r] = src[r * ld + i] for r < rows <= 16, i < k. May also write the 16 floats
  // that follow the result.
  void (*transpose)(const float* src, std::int64_t ld, int rows, std::int64_t k, float* dst);
  // `parts` groups of `rows` <= 16 columns, `stride` floats apart in dst:
  // dst[part * stride + i * rows + r] = src[i * ld + part * rows + r] for i < k.
  void (*copy)(const float* src, std::int64_t ld, std::int64_t k, std::int64_t parts, int rows,
               std::int64_t stride, float* dst);
};

extern const GemmKernel portable_gemm;
#if defined(__x86_64__)
extern const GemmKernel avx2_gemm;
extern const GemmKernel avx512_gemm;
#endif

}  // namespace sluice
