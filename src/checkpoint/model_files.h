// A model's tensors as files that Transformers loads: model.safetensors under Hugging Face's names
// with config.json beside it (the optimizer's state: state_files.h). Padding of the
// vocabulary is left out; a tied head is not stored twice. Read are those files in any form that
// Transformers has written (weight_files.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/store.h"
#include "core/function_ref.h"
#include "models/family.h"

namespace sluice {

// Gives the tensor of a value in a layer ("wte" of layer 0, "m.wte" its first moment).
using TensorAccess = FunctionRef<Tensor(int layer, const std::string& value)>;

// One array that the optimizer keeps beside a weight: value "m.NAME" of the weight's layer for kind
// "m". Kinds: m, v; low beside them (exact); m_scale, v_scale (compact).
struct StateTensor {
  std::string kind;
  DType type = DType::f32;
  std::vector<std::int64_t> shape;  // without padding
  std::int64_t bytes = 0;
};

// One trained tensor: where it lives, and its name outside.
struct ModelTensor {
  int layer = 0;
  std::string value;                // name in the layer's graph
  std::string name;                 // Hugging Face's
  std::vector<std::int64_t> shape;  // without padding
  std::int64_t rows = 0;            // of the first axis in memory: blocks of state lie in a row
  DType type = DType::f32;
  std::int64_t bytes = 0;
  bool frozen = false;
  bool averaged = false;  // "average.NAME" is kept
  std::vector<StateTensor> state;
  std::int64_t count() const;
};
// All of them, in the order of layers and of values in a layer: the order of digests and norms.
std::vector<ModelTensor> model_tensors(const ModelGraphs& model, const ModelConfig& config);
// Of a model that only its files are looked at of: no state, float32.
std::vector<ModelTensor> model_tensors(const ModelConfig& config);

// 64 bits over every weight's name and bytes, padding apart.
std::uint64_t weights_digest(const std::vector<ModelTensor>& tensors, TensorAccess access);

void save_model(CheckpointSave& save, const ModelConfig& config,
                const std::vector<ModelTensor>& tensors, TensorAccess access);

// Reads DIR/config.json. Exit::input when it is missing or describes no model we know: kind,
// activation, sizes and features are all looked at.
ModelConfig read_model_config(const std::filesystem::path& dir);
// Type of the matrices in DIR: bf16 when any is, else f32.
DType stored_precision(const std::filesystem::path& dir);
// Fills the weights from DIR's files (or one file of it), in float32 or bf16 whatever they have;
// names may lack "transformer.". Exit::input when a tensor is missing, unknown or shaped otherwise:
// nothing is guessed. At most 64 MiB beside the model.
void load_model(const std::filesystem::path& dir, const ModelConfig& config,
                const std::vector<ModelTensor>& tensors, TensorAccess access,
                const std::string& file = {});
// The same for a run that begins there: the lower halves of float32 masters too, where the
// optimizer keeps them.
void load_masters(const std::filesystem::path& dir, const ModelConfig& config,
                  const std::vector<ModelTensor>& tensors, TensorAccess access,
                  const std::string& file = {});
// What load_model() would refuse, found without a model in memory.
class WeightFiles;
void check_weights(const WeightFiles& files, const ModelConfig& config,
                   const std::vector<ModelTensor>& tensors);

}  // namespace sluice
