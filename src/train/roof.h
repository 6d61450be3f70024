// The roof of a training step: what it would take if there were nothing but its matrix products at
// the rate that they reach back to back, its attention at its measured rate, and the least bytes of
// everything else at the rate of the memory. `sluice bench` prints it beside the step.
#pragma once

#include <vector>

#include "program/program.h"
#include "train/ceilings.h"
#include "train/config.h"

namespace sluice {

// The products of a program in their order, without what is fused with them; those of the head by
// chunks.
std::vector<LooseOp> products_of(const Program& program);
// Its ops of attention, alike ones once.
struct Repeated {
  LooseOp op;
  std::int64_t count = 0;
};
std::vector<Repeated> attentions_of(const Program& program);

// Bytes that a token's elementwise work must move, by a fixed formula, whatever the program does:
// layers x width x 82, or 42 where GELU is part of a product's epilogue, and 4 for each entry of
// the vocabulary.
double elementwise_bytes(const ModelConfig& model, const Plan& plan);
// Bytes of a step's update: 32 for each parameter, and 8 for each micro-batch after the first.
double update_bytes(const ModelConfig& model, const Plan& plan);

// Seconds of a step.
struct Roof {
  double products = 0, attention = 0, elementwise = 0, update = 0;
  double product_flops = 0;    // of a step
  double attention_flops = 0;  // the causal half
  double bytes = 0;            // of elementwise work and the update
  double memory_rate = 0;      // bytes per second
  double measured = 0;         // seconds that the products ran
  double seconds() const { return products + attention + elementwise + update; }
};
// `seconds`: of products back to back, at least. Error (usage) when an op does not fit in what the
// ceilings have.
Roof measure_roof(Ceilings& ceilings, const Program& steady, const ModelConfig& model,
                  const Plan& plan, double seconds);

}  // namespace sluice
