// Float32 matrix products on the CPU: C[M,N] = start + alpha · A[M,K] · B[K,N].
//
// The bits of C[i,j] are a function of row i of A, column j of B, the start and alpha, and of
// nothing else: not of the threads, of M or N, of where the element lies, of how A and B are
// stored, nor of the instruction set. The rule, for each element:
//     c = start                                    0, or bias[j], or C[i,j] when accumulating
//     for each block of gemm_block_k values of k, ascending:
//         s = 0;  for k in the block, ascending:  s = fma(A[i,k], B[k,j], s)
//         c = fma(alpha, s, c)                     with alpha = 1: c + s
//
// Limit: the processor's fused multiply-adds (M > ~30), or reading packed B once (small M).
// Memory: the caller gives all of it. Threads: those of the pool; calls must not overlap on one
// pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/isa.h"
#include "backend/cpu/pool.h"

namespace sluice {

constexpr std::int64_t gemm_block_k = 256;
constexpr std::int64_t panel_columns = 16;

// How a matrix X[rows, columns] lies in memory; `ld` counts floats between neighbouring lines.
enum class Stored {
  rows,        // X[r,c] at data[r * ld + c]
  transposed,  // X[r,c] at data[c * ld + r]
  packed,      // panels written by pack_b; ld is not used. B only
};

// A product. Sizes may be 0 or more; with K = 0, C becomes the start. C overlaps no input.
struct Gemm {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  const float* a = nullptr;
  std::int64_t lda = 0;
  Stored a_stored = Stored::rows;  // rows or transposed
  const float* b = nullptr;
  std::int64_t ldb = 0;
  Stored b_stored = Stored::packed;
  float* c = nullptr;  // rows, ldc >= n
  std::int64_t ldc = 0;
  bool accumulate = false;
  float alpha = 1.0f;
  const float* bias = nullptr;  // N floats or none. REQUIRES none when accumulating
  std::int64_t first_row = 0;   // the rows [first_row, last_row) of C are made, as far as there
  std::int64_t last_row = INT64_MAX;  // are any, and the others left as they are
};

// Packed B: ceil(N / 16) panels, panel p holding columns 16p … 16p + 15 as [K][16], zeros after
// column N. The same for every instruction set. Aligned to 64 bytes it is read fastest.
std::int64_t packed_floats(std::int64_t k, std::int64_t n);

// Packs B[K,N], stored as rows or (transposed) as [N,K]. Reads and writes each element once. The
// work is tiles of 256 rows x 128 columns, strip of columns after strip; [first, last) of them are
// done.
void pack_b(Pool& pool, std::int64_t k, std::int64_t n, const float* src, std::int64_t ld,
            bool transposed, float* dst, std::int64_t first = 0, std::int64_t last = INT64_MAX);

// Scratch of gemm() on a pool of that many threads; independent of the product.
std::int64_t gemm_workspace_bytes(int threads);

// REQUIRES: available(isa); workspace.size() >= gemm_workspace_bytes(pool.threads()) (Error).
void gemm(Pool& pool, Isa isa, const Gemm& product, std::span<std::byte> workspace);

}  // namespace sluice
