// GPT-2 (Radford et al. 2019): learned positions, pre-norm blocks, fused query-key-value
// projection. With other widths, GELU forms and initial values it is gigaGPT and Cerebras-GPT.
#pragma once

#include "graph/builder.h"
#include "models/config.h"

namespace sluice {

void gpt2_embedding(Builder& g, const ModelConfig& c);
void gpt2_block(Builder& g, const ModelConfig& c);
void gpt2_head(Builder& g, const ModelConfig& c, std::int64_t head_chunk);

}  // namespace sluice
