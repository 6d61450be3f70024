// The op lists of a program: what an action of a kind of layer and a phase runs, and where each
// operand lies relative to the action's bases.
#pragma once

#include "program/copies.h"
#include "program/plumbing.h"

namespace sluice {

// REQUIRES: `phase` is no copy. `backward`: of a program that trains. `packs`: of a layer whose
// gradients rest packed.
OpList make_list(const Plumbing& plumbing, const Residency& residency, LayerKind kind, Phase phase,
                 bool backward, bool packs = false);

BlobUses uses_of(const OpList& list);
bool reads_batch(const LayerGraph& graph, const std::vector<Op>& ops);

}  // namespace sluice
