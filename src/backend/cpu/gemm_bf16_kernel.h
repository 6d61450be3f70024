// The part of gemm_bf16() that exists once per instruction set: register tiles, and the moves that
// bring operands into their form.
//
// A word is two bf16 of neighbouring k, the lower k first: what one multiply-add of a bf16 register
// tile takes. Words are declared as 16-bit numbers, two each; a bf16 is its bits. Files of one
// instruction set include this header and <immintrin.h> and nothing else (see gemm_kernel.h).
#pragma once

#include <cstdint>

#include "backend/cpu/gemm_kernel.h"

namespace sluice {

using Half = std::uint16_t;

constexpr std::int64_t max_bf16_block_k = 1024;
constexpr int max_bf16_tile_rows = 32;

struct Bf16Kernel {
  std::int64_t block_k;                // values of k in a block; part of the numerics rule
  int rows;                            // the most rows of a tile
  int group;                           // packed groups of A have so many rows; 0: those of the tile
  int panels[max_bf16_tile_rows + 1];  // the most panels of a tile with so many rows
  // One register tile, one block. k counts words; a is what this kernel made of A, b are panels of
  // words [k][16]. If `widen` is there, both are float32 and k counts values.
  void (*tile)(const GemmTile& tile, int rows, int panels);
  // Around all tiles of one task: configures AMX and lets it go. May be null.
  void (*begin)();
  void (*end)();

  // Panels of words from rows of a matrix X[k, columns]: word (p, j) = X[2p, j], X[2p + 1, j] at
  // dst[(j / width * stride + p * width + j % width) * 2]; stride in words, width <= 16. The last
  // panel and the last word are filled up with zeros.
  void (*interleave)(const Half* src, std::int64_t ld, std::int64_t k, std::int64_t columns,
                     int width, std::int64_t stride, Half* dst);
  // One panel of words from columns of X, X[i, j] at src[j * ld + i], filled up likewise. May also
  // write the 16 words that follow the result.
  void (*transpose)(const Half* src, std::int64_t ld, std::int64_t k, int columns, int width,
                    Half* dst);
  // The same two for panels of 16 that nobody reads soon: past the caches, which spares reading
  // what is overwritten. dst is aligned to 64 bytes, stride a multiple of 16. May be null.
  void (*interleave_past)(const Half* src, std::int64_t ld, std::int64_t k, std::int64_t columns,
                          int width, std::int64_t stride, Half* dst);
  void (*transpose_past)(const Half* src, std::int64_t ld, std::int64_t k, int columns, int width,
                         Half* dst);
  // AMX's form of A, up to 32 rows of k values. From rows, and from the panels of 16 rows that
  // interleave() made, in place. Null: A stays as panels of words.
  void (*tiles_of_rows)(const Half* src, std::int64_t ld, std::int64_t k, int rows, Half* dst);
  void (*tiles_of_panels)(Half* panels, std::int64_t k, int rows);
  // Words [count][width] as float32 [2 * count][width]. Null: words are what the tile wants.
  void (*widen)(const Half* words, std::int64_t count, int width, float* dst);

  // to = from, to nearest; ties to even; NaN stays NaN.
  void (*round)(const float* from, std::int64_t count, Half* to);
};

extern const Bf16Kernel portable_gemm_bf16;
#if defined(__x86_64__)
extern const Bf16Kernel avx2_gemm_bf16;
extern const Bf16Kernel avx512_gemm_bf16;
extern const Bf16Kernel avx512_bf16_gemm_bf16;
extern const Bf16Kernel amx_gemm_bf16;
#endif

}  // namespace sluice
