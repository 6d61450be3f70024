// The dense peaks of GPUs as their maker states them, and the work of a token that utilization is
// stated with there. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "models/config.h"

namespace sluice {

// Multiply-adds per second counted twice, without sparsity; 0: a GPU that the table has not.
double dense_peak(std::string_view gpu, bool bf16);

// FLOPs of training one token: six for each parameter that is in a product, and the causal half of
// attention, 6 L D T. Nothing for recomputation.
double causal_flops(const ModelConfig& model, std::int64_t sequence);

}  // namespace sluice
