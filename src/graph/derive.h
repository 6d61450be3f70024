// Derived weights: packed copies that a backend's matrix products read instead of the weight.
#pragma once

#include "graph/graph.h"

namespace sluice {

// For every product with a weight, adds the packed weight to the graph that owns it, a Pack op to
// that graph's `derive` list, and names it in the product. One copy serves all products that read
// the weight the same way. Run after derive_backward, before add_update.
void derive_packed_weights(ModelGraphs& model);

}  // namespace sluice
