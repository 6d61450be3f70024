// What gemm.cpp and gemm_small.cpp share: the kernel of an instruction set, and packing into
// panels.
#pragma once

#include <cstdint>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/isa.h"

namespace sluice {

// REQUIRES available(isa).
const GemmKernel& gemm_kernel(Isa isa);

// Writes the panels [k][16] of B[k, n], `stride` floats apart, zeros after column n. B[i,j] lies at
// src[j * ld + i] if transposed, else at src[i * ld + j].
void pack_panels(const GemmKernel& kernel, const float* src, std::int64_t ld, std::int64_t k,
                 std::int64_t n, bool transposed, std::int64_t stride, float* dst);

}  // namespace sluice
