// Floating-point operations of training, by the three rules that are published for language models.
// They differ by a fifth for small models, so a figure must say which rule it follows.
//
// Each gives FLOPs per token of a forward and backward pass, a multiply-add being two; nothing is
// counted for recomputation or for the optimizer. `sequence` is the number of tokens that attention
// sees at once. Pure functions, any thread. REQUIRES: check(model) passes, sequence >= 1.
#pragma once

#include <cstdint>
#include <span>

#include "models/config.h"

namespace sluice {

// 6 N, N being all parameters (Kaplan et al. 2020, Hoffmann et al. 2022): no attention at all.
double flops_six_n(const ModelConfig& model, std::int64_t sequence);

// The rule behind the table of Cerebras' modelzoo: every product once, the softmax as three FLOPs
// per score, the embedding as a product with one-hot rows; backward costs twice the forward pass,
// for the embedding once. Attention counts all scores, masked ones too.
double flops_model_zoo(const ModelConfig& model, std::int64_t sequence);

// The rule behind the figures of the Cerebras-GPT paper (Dey et al. 2023), and the one to use
// beside its scaling law: flops_model_zoo() with attention's two products counted twice.
double flops_paper(const ModelConfig& model, std::int64_t sequence);

struct FlopsRule {
  const char* name;  // "six_n"
  double (*of)(const ModelConfig& model, std::int64_t sequence);
};
// The three, in the order above.
std::span<const FlopsRule> flops_rules();

// Parameters by the formula of Narayanan et al. 2021 (PTD-P, equation 2): a GPT with learned
// positions and a tied head, without its last norm.
double megatron_parameters(const ModelConfig& model);

}  // namespace sluice
