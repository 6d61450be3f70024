// For tests: small models, the same ones in every room.
#pragma once

#include <string>

#include "models/config.h"

namespace sluice::testing {

struct TinySizes {
  std::int64_t width = 32, context = 16, vocab = 61;
};

// 2 layers and 2 heads; half of a head turns, rounded up to pairs.
inline ModelConfig tiny_model(const std::string& family, const TinySizes& sizes = {}) {
  ModelConfig config;
  config.family = family;
  config.layers = 2;
  config.width = sizes.width;
  config.heads = 2;
  config.context = sizes.context;
  config.vocab = sizes.vocab;
  config.tied = family == "gpt2";
  config.rotary = family == "gptj" ? (sizes.width / 4 + 1) / 2 * 2 : 0;
  return config;
}

}  // namespace sluice::testing
