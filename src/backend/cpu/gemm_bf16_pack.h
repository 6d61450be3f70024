// What gemm_bf16.cpp and gemm_bf16_pack.cpp share: the kernel of an instruction set, and packing of
// B.
#pragma once

#include "backend/cpu/gemm_bf16_kernel.h"
#include "backend/cpu/isa.h"
#include "core/dtype.h"

namespace sluice {

// REQUIRES available(isa).
const Bf16Kernel& gemm_bf16_kernel(Isa isa);

// A bf16 is its bits, its only member. x may be null.
inline const Half* halves_of(const bf16* x) { return reinterpret_cast<const Half*>(x); }
inline Half* halves_of(bf16* x) { return reinterpret_cast<Half*>(x); }

// Writes the panels of words of B[k, n], `stride` words apart. B[i,j] lies at src[j * ld + i] if
// transposed, else at src[i * ld + j]. `past`: nobody reads them soon; REQUIRES the alignment that
// the kernel's moves past the caches ask for.
void pack_panels_bf16(const Bf16Kernel& kernel, const Half* src, std::int64_t ld, std::int64_t k,
                      std::int64_t n, bool transposed, std::int64_t stride, Half* dst,
                      bool past = false);

}  // namespace sluice
