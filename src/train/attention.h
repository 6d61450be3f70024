// What computes the attention of a run on a GPU, in words.
#pragma once

#include <string>

#include "program/plan.h"
#include "train/config.h"

namespace sluice {

// "cuDNN; gradient: cuDNN, every sum in one order, 2 pieces of 32 sequences": by shape and type
// alone, as ops/attention/pieces.h says.
std::string attention_text(const Config& config, const Plan& plan);

}  // namespace sluice
