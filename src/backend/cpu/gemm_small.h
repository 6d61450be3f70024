// Products of small blocks inside a kernel's own loop (attention's tiles): one thread, one K block,
// B packed beforehand. The bits follow the rule of gemm.h with alpha = 1.
#pragma once

#include <cstdint>

#include "backend/cpu/isa.h"

namespace sluice {

// Floats that pack_block writes: k rows of n rounded up to panels of 16.
constexpr std::int64_t packed_block_floats(std::int64_t k, std::int64_t n) {
  return (n + 15) / 16 * 16 * k;
}

// Packs B[k,n] into panels [n/16][k][16] with zeros after column n. `transposed`: B[k,n] lies at
// src[n * ld + k], else at src[k * ld + n].
void pack_block(Isa isa, const float* src, std::int64_t ld, std::int64_t k, std::int64_t n,
                bool transposed, float* dst);

// C[m,n] = A[m,k] · B[k,n], added to C if `accumulate`. A lies in rows (A[i,k] at a[i * lda + k])
// or, a_transposed, at a[k * lda + i]. Takes some 16 KiB of stack. REQUIRES k <= gemm_block_k
// (256).
void block_gemm(Isa isa, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
                std::int64_t lda, const float* b_packed, float* c, std::int64_t ldc,
                bool accumulate, bool a_transposed = false);

}  // namespace sluice
