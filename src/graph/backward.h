// Derives the backward pass of a layer from its forward list: the input part (I) and the weight
// part (W), with the gradient rules of the ops. Run once, before fusion.
#pragma once

#include "graph/graph.h"

namespace sluice {

// Fills input_grad and weight_grad; adds gradient, m and v values to every parameter, the carries
// d_carry_out ("dy") and d_carry_in, and completes HeadLoss with its gradient outputs.
void derive_backward(LayerGraph& graph);

}  // namespace sluice
