// The fusion pass: neighbouring ops that one kernel can do in one sweep. It changes neither values
// nor bits (a fused kernel rounds what it stores before reading it again), only traffic.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ops/all.h"

namespace sluice {

// Replaces
//   Add, LayerNorm of its result                  by ResidualNorm,
//   Linear, Gelu of its result                    by LinearGelu,
//   LinearGradInput, GeluGrad of its result alone by LinearGeluGrad,
//   LayerNormGradInput, Add of its result alone   by LayerNormGradInput that adds: what lies
//                                                 between is no longer made, so nothing in `later`
//                                                 may read it.
std::vector<Op> fuse(const std::vector<Op>& ops, std::span<const Op> later = {});

// The fusions that `fuse` knows, as the numerics key records them; with what the products of a GPU
// do to their results, and GELU too (Numerics::gelu_in_product).
std::string fusion_set(bool epilogues = false, bool gelu_in_product = false);

}  // namespace sluice
