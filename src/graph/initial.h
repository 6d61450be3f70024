// Initial values of a parameter: a pure function of (seed, name, element), so that any cut of the
// model draws the same numbers.
#pragma once

#include <string_view>

#include "graph/graph.h"

namespace sluice {

// Fills `weight` (f32 or bf16, the parameter's shape in memory) with the same draws in any format:
// of a bf16 weight they are the masters, and `low` (i16, may be empty) keeps the rest.
// `unique_name` names the tensor in the whole model ("transformer.h.3.mlp.c_fc.weight"). Padded
// vocabulary rows become 0.
void fill_initial(const Tensor& weight, const Tensor& low, const Parameter& parameter,
                  std::string_view unique_name, std::uint64_t seed, const Parametrization& scales);
// Elements [begin, end) of them alone, those of padding counted: any number of threads at once,
// each with elements of its own.
void fill_initial(const Tensor& weight, const Tensor& low, const Parameter& parameter,
                  std::string_view unique_name, std::uint64_t seed, const Parametrization& scales,
                  std::int64_t begin, std::int64_t end);

}  // namespace sluice
