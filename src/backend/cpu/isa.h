// The instruction sets that the CPU kernels are written for, and which of them this machine has.
//
// Part of the numerics key: kernels of two instruction sets need not agree in every bit (the matrix
// products do, see gemm.h). Pure functions; the answers never change within a process.
#pragma once

#include <string_view>
#include <vector>

namespace sluice {

// In ascending order: a machine that has one has those before it.
enum class Isa {
  portable,  // plain C++
  avx2,      // AVX2 and FMA
  avx512,    // AVX-512 F, BW, VL, DQ
};

std::string_view name_of(Isa isa);

// True if this CPU has it and this operating system saves its registers.
bool available(Isa isa);

// Those available, ascending; never empty.
std::vector<Isa> available_isas();
Isa best_isa();

// The instruction set called `name` ("auto": the best). Error (usage) that lists what there is when
// the name is unknown or this machine lacks it.
Isa parse_isa(std::string_view name);

}  // namespace sluice
