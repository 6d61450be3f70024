// GPT-J (Wang & Komatsuzaki 2021): rotary positions, attention and MLP side by side behind one
// norm, a head of its own with a bias.
#pragma once

#include "graph/builder.h"
#include "models/config.h"

namespace sluice {

void gptj_embedding(Builder& g, const ModelConfig& c);
void gptj_block(Builder& g, const ModelConfig& c);
void gptj_head(Builder& g, const ModelConfig& c, std::int64_t head_chunk);

}  // namespace sluice
