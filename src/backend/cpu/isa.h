// The instruction sets that the CPU kernels are written for, and which of them this machine has.
//
// Part of the numerics key: kernels of two instruction sets need not agree in every bit (the matrix
// float32 matrix products do, see gemm.h). The answers never change within a process.
#pragma once

#include <string_view>
#include <vector>

namespace sluice {

// In ascending order: a machine that has one has those before it.
enum class Isa {
  portable,     // plain C++
  avx2,         // AVX2 and FMA
  avx512,       // AVX-512 F, BW, VL, DQ
  avx512_bf16,  // and AVX512_BF16: dot products of bf16 pairs
  amx,          // and AMX-TILE, AMX-BF16: products of bf16 tiles
};

// The set whose vector kernels serve `isa`: the bf16 sets add matrix products, nothing else.
constexpr Isa vector_isa(Isa isa) { return isa > Isa::avx512 ? Isa::avx512 : isa; }

// True of the sets that multiply bf16 faster than float32.
constexpr bool multiplies_bf16(Isa isa) { return isa >= Isa::avx512_bf16; }

std::string_view name_of(Isa isa);

// True if this CPU has it and this operating system saves its registers. The first question after
// amx asks the kernel to let this process use the tiles, which Linux otherwise forbids.
bool available(Isa isa);

// Those available, ascending; never empty.
std::vector<Isa> available_isas();
Isa best_isa();

// The instruction set called `name` ("auto": the best). Error (usage) that lists what there is when
// the name is unknown or this machine lacks it.
Isa parse_isa(std::string_view name);

}  // namespace sluice
