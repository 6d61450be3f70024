#include "models/family.h"

#include <nlohmann/json.hpp>

#include "models/gpt2.h"
#include "models/gptj.h"
#include "models/tables.h"

namespace sluice {

std::span<const Family> families() {
  static constexpr Family all[] = {
      {"gpt2", gpt2_embedding, gpt2_block, gpt2_head, gpt2_sharding, gpt2_tensor_name,
       gpt2_absent_biases, gpt2_to_config, gpt2_from_config, "gpt2"},
      {"gptj", gptj_embedding, gptj_block, gptj_head, gptj_sharding, gptj_tensor_name,
       gptj_absent_biases, gptj_to_config, gptj_from_config, "gptj"},
  };
  return all;
}

const Family& family_of(const ModelConfig& config) {
  for (const Family& family : families())
    if (config.family == family.name) return family;
  throw Error(Exit::usage, {fmt::format("no model family is called {}", config.family),
                            "model.family",
                            "gpt2 or gptj",
                            config.family,
                            {}});
}

const Family& family_of_model_type(const std::string& model_type) {
  for (const Family& family : families())
    if (model_type == family.model_type) return family;
  throw Error(Exit::input, {"this kind of model is not known",
                            "config.json model_type",
                            "gpt2 or gptj",
                            model_type,
                            {}});
}

ModelGraphs build_forward(const ModelConfig& config, BatchShape shape,
                          const Parametrization& parametrization, std::int64_t head_chunk,
                          const Numerics& numerics) {
  require(shape.time <= config.context, [&] {
    return Error(Exit::usage, {"a sequence is longer than the model's context",
                               "model.context",
                               fmt::format("at most {} tokens", config.context),
                               fmt::format("{}", shape.time),
                               {}});
  });
  const Family& family = family_of(config);
  ModelGraphs model;
  model.layers = static_cast<int>(config.layers);
  model.vocab = config.vocab;
  model.shape = shape;
  Builder embedding(LayerKind::embedding, shape, parametrization, numerics);
  family.embedding(embedding, config);
  model.embedding = embedding.take();
  Builder block(LayerKind::block, shape, parametrization, numerics);
  family.block(block, config);
  model.block = block.take();
  Builder head(LayerKind::head, shape, parametrization, numerics);
  family.head(head, config, head_chunk);
  model.head = head.take();
  model.step.kind = LayerKind::step;
  return model;
}

}  // namespace sluice
