// What backward needs of forward: which values are kept (the stash) and which are remade.
#pragma once

#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace sluice {

// none: every value that backward reads is kept. selective: norms, GELU and casts are remade from
// what is kept. block: only the layer's input is kept (of a block that is cut, both parts'). No
// level redoes what backward does not read, so the second product of the MLP never runs twice; GELU
// that its product made (Gelu::in_product) is kept where that product is. Remade values have the
// same bits as the first ones.
enum class Recompute : std::uint8_t { none, selective, block };

std::string_view name_of(Recompute level);
Recompute parse_recompute(std::string_view name);  // Exit::usage when unknown

struct Kept {
  std::vector<bool> stash;    // per value: survives from F to I and W
  std::vector<Op> recompute;  // runs at the start of I; forward order
};

Kept choose_kept(const LayerGraph& graph, Recompute level);

}  // namespace sluice
