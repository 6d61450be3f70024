// Norms of each layer's weights and of its gradient in the newest step: on request, for those who
// look where training goes wrong. Only reads.
#pragma once

#include <string>
#include <vector>

#include "train/trainer.h"

namespace sluice {

// By layer: embedding, blocks, head. A weight that two layers share counts in the first.
struct LayerNorms {
  std::vector<double> weights;    // as they are stored
  std::vector<double> gradients;  // of the mean gradient, before clipping; 0 of a frozen layer
};

// `weight`: the sum of the step's token weights (StepResult). REQUIRES: the trainer is settled.
LayerNorms layer_norms(Trainer& trainer, double weight);

// The norm of all parts together.
double total(const std::vector<double>& norms);
// "embedding", "block-00", …, "head": of layer `layer` of `layers`, sorted as they are counted.
std::string layer_label(std::size_t layer, std::size_t layers);

}  // namespace sluice
