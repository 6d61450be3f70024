// Derives the backward pass of a layer from its forward list: the input part (I) and the weight
// part (W), with the gradient rules of the ops. Run once, before fusion.
#pragma once

#include "graph/graph.h"
#include "graph/numerics.h"

namespace sluice {

// Fills input_grad and weight_grad; adds the gradient and the optimizer's state of every parameter
// that is not frozen, the carries d_carry_out ("dy") and d_carry_in, and completes HeadLoss with
// its gradient outputs. A frozen parameter costs nothing here. REQUIRES: the numerics that the
// graph was built with.
void derive_backward(LayerGraph& graph, const Numerics& numerics = {});

}  // namespace sluice
