// What has been published about the models that Sluice has configs for: one table. Tests hold every
// built-in config to it, and a file that carries one of these names has to reach its parameters.
//
// Pure functions, any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "models/config.h"

namespace sluice {

// A count to the digits that were published: 1.7e9 in units of 0.1e9, or exact in units of 1.
struct PublishedCount {
  double value = 0, unit = 1;
  bool reached_by(std::int64_t count) const;
};

struct PublishedModel {
  const char* name;
  const char* family;
  std::int64_t layers, width, heads, inner, vocab, context;
  PublishedCount parameters;
  // How it was trained; 0: not published.
  std::int64_t batch = 0;  // sequences of `context` tokens in the first step
  std::int64_t steps = 0;
  std::int64_t warmup_steps = 0;
  double lr = 0, lr_end = 0;
};

// By paper, then by size. Sources:
//   gpt2-*          Radford et al. 2019 and its released weights
//   cerebras-gpt-*  Dey et al. 2023, and the configs of Cerebras' modelzoo 1.8
//   gigagpt-*       the configs of Cerebras' gigaGPT
//   gptj-6b         mesh-transformer-jax, 6B_roto_256; the count is of Hugging Face's tensors
//   ptdp-*          Narayanan et al. 2021, table 1, and Megatron-LM's scripts for it
std::span<const PublishedModel> published_models();
const PublishedModel* find_published(std::string_view name);  // null: no such row

// Trained numbers of the whole model, a tied weight once. REQUIRES: check(config) passes.
std::int64_t parameters_of(const ModelConfig& config);

}  // namespace sluice
