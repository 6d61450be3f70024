// Matrix products of bf16 operands on the CPU: C[M,N] = start + alpha · A[M,K] · B[K,N], summed in
// float32; C is float32, or bf16 rounded once at the end.
//
// The bits of C[i,j] are a function of row i of A, column j of B, the start, alpha and the
// instruction set, and of nothing else: not of the threads, of M or N, of where the element lies,
// nor of how A and B are stored. The rule, for each element:
//     c = start                                    0, or bias[j], or C[i,j] when accumulating
//     for each block of block_k values of k, ascending:
//         s = the sum over the block, from 0
//         c = fma(alpha, s, c)
//     C as bf16: c to nearest, ties to even
// What differs between the sets is the sum:
//     portable, avx2, avx512   k ascending, s = fma(A[i,k], B[k,j], s); blocks of 256. The same for
//                              all three: gemm()'s result over the same numbers as float32.
//     avx512_bf16              pairs of k ascending, s = dpbf16(s, pair); blocks of 1,024
//     amx                      groups of 32 values of k ascending, s = tdpbf16(s, group); blocks of
//                              1,024
// The last two take denormal numbers and results for 0. A missing K is filled up with zeros.
//
// Limit: the processor's multiply-adds of bf16 pairs, which is twice its float32 rate with
// avx512_bf16 and 16 times with amx; or reading packed B once (small M).
// Memory: the caller gives all of it. Threads: those of the pool; calls must not overlap on one
// pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "backend/cpu/gemm.h"
#include "core/dtype.h"
#include "core/function_ref.h"

namespace sluice {

// A finished part of C in float32, in the worker's scratch and still in its second level cache:
// element (row + i, column + j) of C at data[i * ld + j]. May be changed in place; it is gone after
// the call. Every element of C is in exactly one part.
struct FinishedTile {
  std::int64_t row, rows;
  std::int64_t column, columns;
  float* data;
  std::int64_t ld;
  int worker;  // of the pool
};
using FinishTile = FunctionRef<void(const FinishedTile&)>;

// A product. Sizes may be 0 or more; with K = 0, C becomes the start. C overlaps no input. `ld`
// counts bf16 between neighbouring lines. REQUIRES exactly one of c, c_bf16 and finish.
struct GemmBf16 {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  const bf16* a = nullptr;
  std::int64_t lda = 0;
  Stored a_stored = Stored::rows;  // rows or transposed
  const bf16* b = nullptr;
  std::int64_t ldb = 0;
  Stored b_stored = Stored::packed;
  float* c = nullptr;  // rows; ldc >= n of C's own type
  bf16* c_bf16 = nullptr;
  std::int64_t ldc = 0;
  // Instead of a C: called from the pool's threads with each part of it when its last block of K is
  // in. What it refers to must outlive the product.
  std::optional<FinishTile> finish = std::nullopt;
  bool accumulate = false;  // into c. REQUIRES c and no bias
  float alpha = 1.0f;
  const float* bias = nullptr;  // N floats or none
  std::int64_t first_row = 0;   // the rows [first_row, last_row) of C are made, as far as there
  std::int64_t last_row = INT64_MAX;  // are any, and the others left as they are
};

// Packed B: ceil(N / 16) panels, panel p holding columns 16p … 16p + 15 as [ceil(K / 2)][16][2],
// with zeros after row K and column N. The same for every instruction set. Aligned to 64 bytes it
// is read fastest. The number of bf16:
std::int64_t packed_bf16_count(std::int64_t k, std::int64_t n);

// Packs B[K,N], stored as rows or (transposed) as [N,K]. Reads and writes each element once. The
// work is tiles of 512 rows x 128 columns, strip of columns after strip; [first, last) of them are
// done.
void pack_b_bf16(Pool& pool, std::int64_t k, std::int64_t n, const bf16* src, std::int64_t ld,
                 bool transposed, bf16* dst, std::int64_t first = 0, std::int64_t last = INT64_MAX);

// Scratch of gemm_bf16() on a pool of that many threads; independent of the product and of the
// instruction set. With more of it, products that pack B and have thousands of rows pack B less
// often.
std::int64_t gemm_bf16_workspace_bytes(int threads);

// REQUIRES: available(isa); workspace.size() >= gemm_bf16_workspace_bytes(pool.threads()) (Error).
void gemm_bf16(Pool& pool, Isa isa, const GemmBf16& product, std::span<std::byte> workspace);

// to[i * ld + j] = from[i * from_ld + j] rounded to nearest, ties to even; NaN stays NaN: the same
// bits as bf16(float) for every instruction set. For those who finish tiles. REQUIRES
// available(isa).
void round_to_bf16(Isa isa, const float* from, std::int64_t from_ld, std::int64_t rows,
                   std::int64_t columns, bf16* to, std::int64_t ld);

}  // namespace sluice
