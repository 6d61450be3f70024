#include "checkpoint/model_files.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/tensor_files.h"
#include "core/file.h"
#include "core/hash.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

std::vector<std::int64_t> stored_shape(const LayerGraph& graph, const Parameter& p) {
  // Files know matrices and vectors: the axes that a product contracts or yields are one each.
  const Shape& shape = graph[p.weight].type.shape;
  if (!p.decays) return {p.count()};
  if (shape.rank() == 2) return {p.rows, shape[1].size};
  // [in… out…] with one side factored: the unfactored side is a single axis, first or last.
  const bool first_single = shape[0].axis == Axis::model || shape[0].axis == Axis::model_out ||
                            shape[0].axis == Axis::hidden;
  const int split = first_single ? 1 : shape.rank() - 1;
  std::int64_t columns = 1;
  for (int i = split; i < shape.rank(); ++i) columns *= shape[i].size;
  return {shape.count() / columns, columns};
}

std::span<const std::byte> real_bytes(const Tensor& tensor, const ModelTensor& info) {
  return {static_cast<const std::byte*>(tensor.raw()), static_cast<std::size_t>(info.bytes)};
}

// Matrices are read into the type that the run computes in: float32 to bf16 is rounded half up, as
// the exact state's weight is.
void copy_weight(const SafetensorsFile& file, const ModelTensor& wanted, const Tensor& to) {
  const TensorInfo& info =
      require_tensor(file, wanted.name, {DType::f32, DType::bf16}, wanted.shape);
  if (info.dtype == file_type(to.dtype())) return copy_bytes(file, info, to);
  std::memset(to.raw(), 0, static_cast<std::size_t>(to.bytes()));
  const std::span<const std::byte> bytes = file.bytes(info);
  const auto count = static_cast<std::size_t>(wanted.count());
  const auto convert = [&]<class From, class To>(From, To (*converted)(From)) {
    for (std::size_t i = 0; i < count; ++i) {
      From x;  // a file's tensors need not be aligned
      std::memcpy(&x, bytes.data() + i * sizeof(From), sizeof(From));
      to.data<To>()[i] = converted(x);
    }
  };
  if (to.dtype() == DType::bf16)
    convert(
        float{}, +[](float x) { return split_master(x).weight; });
  else
    convert(
        bf16{}, +[](bf16 x) { return static_cast<float>(x); });
  file.forget(bytes);
}

std::vector<Source> absent_biases(const ModelConfig& config) {
  std::vector<Source> out;
  if (config.biases) return out;
  const Family& family = family_of(config);
  for (int block = 0; block < config.layers; ++block)
    for (const auto& [name, size] : family.absent_biases(config))
      out.push_back(
          {family.tensor_name(LayerKind::block, block, name), DType::f32, {size}, -1, {}});
  return out;
}

// Anything in the file that the model has no place for, buffers of attention masks apart.
void refuse_unknown(const SafetensorsFile& file, const std::set<std::string>& known) {
  for (const TensorInfo& info : file.tensors()) {
    const bool mask = info.name.ends_with(".attn.bias") || info.name.ends_with(".attn.masked_bias");
    if (mask || known.contains(info.name) || known.contains("transformer." + info.name)) continue;
    bad_tensor(file.name(), "the file has a tensor that this model lacks", info.name, "nothing",
               fmt::format("{} [{}]", info.dtype, fmt::join(info.shape, ", ")));
  }
}

void require_zeros(const SafetensorsFile& file, const Source& bias) {
  const TensorInfo* info = find_tensor(file, bias.name);
  if (info == nullptr) return;
  const std::span<const std::byte> bytes = file.bytes(*info);
  if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; }))
    bad_tensor(file.name(), "the file has a bias that this model lacks", bias.name, "zeros",
               "numbers");
}

// The state that the optimizer keeps beside `p`, in the order of their names.
std::vector<StateTensor> state_of(const LayerGraph& graph, const Parameter& p,
                                  const std::vector<std::int64_t>& shape) {
  std::vector<StateTensor> out;
  const auto add = [&](const char* kind, Id id, const std::vector<std::int64_t>& of) {
    if (id == no_value) return;
    std::int64_t count = 1;
    for (const std::int64_t size : of) count *= size;
    const DType type = graph[id].type.dtype;
    out.push_back({kind, type, of, count * size_of(type)});
  };
  const std::vector<std::int64_t> blocks{p.rows, row_blocks(graph[p.weight].type.shape)};
  add("low", p.low, shape);
  add("m", p.m, shape);
  add("m_scale", p.m_scale, blocks);
  add("v", p.v, shape);
  add("v_scale", p.v_scale, blocks);
  return out;
}

}  // namespace

std::int64_t ModelTensor::count() const {
  std::int64_t out = 1;
  for (const std::int64_t size : shape) out *= size;
  return out;
}

std::vector<ModelTensor> model_tensors(const ModelGraphs& model, const ModelConfig& config) {
  const Family& family = family_of(config);
  std::vector<ModelTensor> out;
  for (int layer = 0; layer < model.layer_count(); ++layer) {
    const LayerKind kind = model.kind_of(layer);
    const LayerGraph& graph = model.of(kind);
    for (const Parameter& p : graph.parameters) {
      ModelTensor tensor;
      tensor.layer = layer;
      tensor.value = p.name;
      tensor.name =
          family.tensor_name(uncut(kind), is_block(kind) ? model.block_of(layer) : 0, p.name);
      tensor.shape = stored_shape(graph, p);
      tensor.rows = p.rows;
      tensor.type = graph[p.weight].type.dtype;
      tensor.bytes = p.count() * size_of(tensor.type);
      tensor.frozen = p.frozen;
      tensor.averaged = p.average != no_value;
      tensor.state = state_of(graph, p, tensor.shape);
      out.push_back(std::move(tensor));
    }
  }
  return out;
}

std::uint64_t weights_digest(const std::vector<ModelTensor>& tensors, TensorAccess access) {
  std::uint64_t digest = 0;
  for (const ModelTensor& tensor : tensors) {
    const std::span<const std::byte> bytes = real_bytes(access(tensor.layer, tensor.value), tensor);
    digest = hash64(tensor.name, digest);
    digest = hash64(bytes.data(), bytes.size(), digest);
  }
  return digest;
}

void save_model(CheckpointSave& save, const ModelConfig& config,
                const std::vector<ModelTensor>& tensors, TensorAccess access) {
  nlohmann::json json = family_of(config).to_config(config);
  const bool half = std::any_of(tensors.begin(), tensors.end(),
                                [](const ModelTensor& t) { return t.type == DType::bf16; });
  // The second name is that of older readers.
  json["dtype"] = json["torch_dtype"] = half ? "bfloat16" : "float32";
  save.add_file("config.json", json.dump(2) + "\n");
  std::vector<Source> sources = absent_biases(config);
  for (const ModelTensor& tensor : tensors)
    sources.push_back({tensor.name, tensor.type, tensor.shape, tensor.layer, tensor.value});
  write_tensors(save, "model.safetensors", sources, access);
}

ModelConfig read_model_config(const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / "config.json";
  const std::string text = read_file(path.string());
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object())
    throw Error(Exit::input,
                {"config.json is not a JSON object", path.string(), "an object", "", {}});
  return family_of_model_type(json.value("model_type", "")).from_config(json);
}

DType stored_precision(const std::filesystem::path& dir) {
  const SafetensorsFile file = SafetensorsFile::open(dir / "model.safetensors");
  for (const TensorInfo& info : file.tensors())
    if (info.dtype == file_type(DType::bf16)) return DType::bf16;
  return DType::f32;
}

void load_model(const std::filesystem::path& dir, const ModelConfig& config,
                const std::vector<ModelTensor>& tensors, TensorAccess access,
                const std::string& file_name) {
  const SafetensorsFile file = SafetensorsFile::open(dir / file_name);
  std::set<std::string> known;
  for (const ModelTensor& tensor : tensors) known.insert(tensor.name);
  for (const Source& bias : absent_biases(config)) {
    known.insert(bias.name);
    require_zeros(file, bias);
  }
  if (config.tied) known.insert("lm_head.weight");
  refuse_unknown(file, known);
  for (const ModelTensor& tensor : tensors)
    copy_weight(file, tensor, access(tensor.layer, tensor.value));
}

}  // namespace sluice
