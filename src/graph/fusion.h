// The fusion pass: neighbouring ops that one kernel can do in one sweep. It changes neither values
// nor bits (a fused kernel rounds what it stores before reading it again), only traffic.
#pragma once

#include <string>
#include <vector>

#include "ops/all.h"

namespace sluice {

// Replaces Add followed by LayerNorm of its result by ResidualNorm.
std::vector<Op> fuse(const std::vector<Op>& ops);

// The fusions that `fuse` knows, as the numerics key records them.
std::string fusion_set();

}  // namespace sluice
