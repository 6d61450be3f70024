// Initial values of a parameter: a pure function of (seed, name, element), so that any cut of the
// model draws the same numbers.
#pragma once

#include <string_view>

#include "graph/graph.h"

namespace sluice {

// Fills `weight` (f32, the parameter's shape in memory). `unique_name` names the tensor in the
// whole model ("transformer.h.3.mlp.c_fc.weight"). Padded vocabulary rows become 0.
void fill_initial(const Tensor& weight, const Parameter& parameter, std::string_view unique_name,
                  std::uint64_t seed, const Parametrization& scales);

}  // namespace sluice
