// Freezing by name: weights that a run reads and never changes.
#pragma once

#include <string>
#include <vector>

#include "models/config.h"

namespace sluice {

// Marks as frozen every parameter whose Hugging Face name matches one of `patterns`, in which "*"
// stands for any text. A frozen parameter gets no gradient, no state and no update. Run before
// derive_backward. Exit::usage for a pattern that matches nothing (the nearest name is suggested),
// for one that selects a tensor in some blocks only (blocks share one graph), and when nothing is
// left to train; `where` is "optim.freeze".
void freeze(ModelGraphs& model, const ModelConfig& config,
            const std::vector<std::string>& patterns);

// "a, b" → {"a", "b"}; empty parts are dropped.
std::vector<std::string> split_patterns(const std::string& list);

}  // namespace sluice
