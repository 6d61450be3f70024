// The families of models that Sluice knows, each a row of functions and tables. To add one: three
// files
// (<name>.cpp, <name>.sharding.cpp, <name>.names.cpp) and a row in family.cpp.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "graph/builder.h"
#include "graph/sharding.h"
#include "models/config.h"

namespace sluice {

// A vector that only Hugging Face's model has: its name inside a block.
struct AbsentBias {
  const char* name;
  std::int64_t size;
};

struct Family {
  const char* name;
  void (*embedding)(Builder&, const ModelConfig&);
  void (*block)(Builder&, const ModelConfig&);
  void (*head)(Builder&, const ModelConfig&, std::int64_t head_chunk);
  ShardingTable (*sharding)();
  // Hugging Face's name of a tensor; `block` counts from 0.
  std::string (*tensor_name)(LayerKind kind, int block, const std::string& name);
  // Tensors that Hugging Face's model has and ours lacks when model.biases is false: saved as
  // zeros. Those of one block.
  std::vector<AbsentBias> (*absent_biases)(const ModelConfig&);
  nlohmann::json (*to_config)(const ModelConfig&);
  ModelConfig (*from_config)(const nlohmann::json&);  // Exit::input when it is not this family's
  const char* model_type;                             // config.json's "model_type"
};

std::span<const Family> families();
const Family& family_of(const ModelConfig& config);
const Family& family_of_model_type(const std::string& model_type);  // Exit::input when unknown

// The forward graphs of a whole model for micro-batches of `shape`; shape.time <= config.context.
ModelGraphs build_forward(const ModelConfig& config, BatchShape shape,
                          const Parametrization& parametrization, std::int64_t head_chunk,
                          const Numerics& numerics = {});

}  // namespace sluice
