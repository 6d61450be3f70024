// The description of a model: everything that its mathematics depends on, and nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/options.h"
#include "graph/graph.h"

namespace sluice {

struct ModelConfig {
  std::string family = "gpt2";
  std::int64_t layers = 12;
  std::int64_t width = 768;
  std::int64_t heads = 12;
  std::int64_t context = 1024;
  std::int64_t vocab = 50257;
  std::int64_t inner = 0;  // width of the MLP; 0: 4 * width
  std::string gelu = "tanh";
  bool tied = true;
  bool biases = true;
  double norm_eps = 1e-5;
  std::int64_t rotary = 0;  // rotated numbers per head (gptj)
  double dropout = 0;
  std::string init_kind = "normal";
  double init_std = 0.02;
  double init_output_std =
      0;  // of the two projections into the residual stream; 0: std / sqrt(2 layers)
  double init_embedding_std = 0;  // 0: std

  std::int64_t inner_width() const { return inner == 0 ? 4 * width : inner; }
  std::int64_t head_size() const { return width / heads; }
  GeluForm gelu_form() const { return gelu == "exact" ? GeluForm::exact : GeluForm::tanh; }
  Init weight_init() const;  // matrices that read the residual stream
  Init output_init() const;  // matrices that write to it
  Init embedding_init() const;
};

void describe(OptionTable& table, ModelConfig& config);

// Throws Exit::usage for sizes that make no model; `where` maps a key to its place in the user's
// file
// ("mine.toml:4 model.width").
using WhereOf = std::string (*)(const void* context, std::string_view key);
struct Where {
  WhereOf of = nullptr;
  const void* context = nullptr;
  std::string operator()(std::string_view key) const {
    return of == nullptr ? std::string(key) : of(context, key);
  }
};
void check(const ModelConfig& config, const Where& where = {});

}  // namespace sluice
