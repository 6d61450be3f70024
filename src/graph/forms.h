// Other forms of a model's forward graphs: evaluation and cached decoding. The model's file does
// not know them.
#pragma once

#include "graph/graph.h"

namespace sluice {

// Cached decoding: attention reads and extends caches of `capacity` tokens per row ("k_cache",
// "v_cache"), "lengths" (i32 [B]) tokens of which are there; the head gives "logits" [B T V]
// instead of the loss. Take it of freshly built graphs (no backward). Evaluation needs no change: a
// graph without a derived backward computes the loss alone.
void make_cached(ModelGraphs& model, std::int64_t capacity);

}  // namespace sluice
