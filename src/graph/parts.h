// Blocks cut in two: attention and MLP become layers of their own.
//
// A layer is what comes to the device and leaves it in one piece, so the largest blob is then an
// MLP's and not a block's. The mathematics stays the model's: the same ops in the same order on
// values of the same names, and so the same bits. What crosses the cut lies where activations
// between layers do; forward and backward visit the parts as they visit layers.
#pragma once

#include <string_view>

#include "graph/graph.h"

namespace sluice {

// How large the pieces are that a block streams in.
enum class Blobs : std::uint8_t { layer, parts };
std::string_view name_of(Blobs blobs);

// Cuts the blocks of forward graphs where their family says (Builder::part). Take it of graphs
// without backward: before derive_backward, after freeze() and make_cached(). Throws Error for a
// cut that other values cross.
void cut_blocks(ModelGraphs& model);

}  // namespace sluice
