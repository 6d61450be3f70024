#include "checkpoint/model_files.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/tensor_files.h"
#include "checkpoint/weight_files.h"
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

constexpr std::int64_t piece_numbers = 1 << 20;

bool same_type(const StoredTensor& stored, DType type) {
  return stored.strides.empty() && stored.dtype == file_type(type);
}

// The file's bytes as they are; what memory has beyond them, padding, becomes zero.
void copy_stored(const WeightFiles& files, const StoredTensor& stored, const Tensor& to) {
  constexpr std::size_t piece_bytes = std::size_t{64} << 20;
  auto* const data = static_cast<std::byte*>(to.raw());
  for (std::size_t at = 0; at < stored.bytes.size(); at += piece_bytes) {
    const auto piece = stored.bytes.subspan(at, std::min(piece_bytes, stored.bytes.size() - at));
    std::memcpy(data + at, piece.data(), piece.size());
    files.forget(stored, piece);
  }
  std::memset(data + stored.bytes.size(), 0,
              static_cast<std::size_t>(to.bytes()) - stored.bytes.size());
}

// Matrices are read into the type that the run computes in: float32 to bf16 is rounded half up, as
// the exact state's weight is, and `low` (may be empty) keeps the rest.
void copy_weight(const WeightFiles& files, const ModelTensor& wanted, const Tensor& to,
                 const Tensor& low) {
  const StoredTensor& stored = require_stored(files, wanted.name, wanted.shape);
  if (low) std::memset(low.raw(), 0, static_cast<std::size_t>(low.bytes()));
  if (same_type(stored, to.dtype())) return copy_stored(files, stored, to);
  std::memset(to.raw(), 0, static_cast<std::size_t>(to.bytes()));
  const std::int64_t count = wanted.count();
  std::vector<float> numbers;
  std::vector<std::int16_t> unkept;
  for (std::int64_t first = 0; first < count; first += piece_numbers) {
    const auto size = static_cast<std::size_t>(std::min(piece_numbers, count - first));
    const auto at = static_cast<std::size_t>(first);
    if (to.dtype() == DType::f32) {
      read_numbers(stored, first, to.values<float>().subspan(at, size));
    } else {
      numbers.resize(size), unkept.resize(size);
      read_numbers(stored, first, numbers);
      split_masters(numbers, to.values<bf16>().subspan(at, size),
                    low ? low.values<std::int16_t>().subspan(at, size) : unkept);
    }
    files.forget(stored, bytes_of_piece(stored, first, static_cast<std::int64_t>(size)));
  }
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

// Anything in the files that the model has no place for, buffers of attention masks apart.
void refuse_unknown(const WeightFiles& files, const std::set<std::string>& known) {
  for (const StoredTensor& stored : files.tensors()) {
    const bool mask =
        stored.name.ends_with(".attn.bias") || stored.name.ends_with(".attn.masked_bias");
    if (mask || known.contains(stored.name) || known.contains("transformer." + stored.name))
      continue;
    throw files.error_at(stored.name, "the file has a tensor that this model lacks", "nothing",
                         stored.text());
  }
}

void require_zeros(const WeightFiles& files, const Source& bias) {
  const StoredTensor* stored = files.find(bias.name);
  if (stored == nullptr) return;
  if (std::any_of(stored->bytes.begin(), stored->bytes.end(),
                  [](std::byte b) { return b != std::byte{0}; }))
    throw files.error_at(bias.name, "the file has a bias that this model lacks", "zeros",
                         "numbers");
}

void load(const std::filesystem::path& dir, const ModelConfig& config,
          const std::vector<ModelTensor>& tensors, TensorAccess access, const std::string& file,
          bool masters) {
  const WeightFiles files = WeightFiles::open(dir, file);
  check_weights(files, config, tensors);
  for (const ModelTensor& tensor : tensors) {
    const bool low = masters && std::any_of(tensor.state.begin(), tensor.state.end(),
                                            [](const StateTensor& s) { return s.kind == "low"; });
    copy_weight(files, tensor, access(tensor.layer, tensor.value),
                low ? access(tensor.layer, "low." + tensor.value) : Tensor());
  }
}

// What a config says wrongly is a wrong file here.
[[noreturn]] void throw_at(Error& e, const std::filesystem::path& path) {
  Report report = e.report();
  constexpr std::string_view bare = "config.json";
  report.where = report.where.starts_with(bare) ? path.string() + report.where.substr(bare.size())
                                                : fmt::format("{} {}", path.string(), report.where);
  if (e.code() == Exit::usage) report.tries.clear();  // they speak of a config of the user's
  throw Error(Exit::input, std::move(report));
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

std::vector<ModelTensor> model_tensors(const ModelConfig& config) {
  return model_tensors(build_forward(config, {1, 1}, standard_parametrization(), 1), config);
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
  constexpr std::size_t most_bytes = std::size_t{1} << 20;
  const std::filesystem::path path = dir / "config.json";
  const std::string text = read_file(path.string(), most_bytes);
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object())
    throw Error(Exit::input,
                {"config.json is not a JSON object", path.string(), "an object", "", {}});
  try {
    const auto type = json.find("model_type");
    const bool said = type != json.end() && type->is_string();
    ModelConfig config =
        family_of_model_type(said ? type->get<std::string>() : "").from_config(json);
    check(config);
    return config;
  } catch (Error& e) {
    throw_at(e, path);
  }
}

DType stored_precision(const std::filesystem::path& dir) {
  const WeightFiles files = WeightFiles::open(dir);
  for (const StoredTensor& stored : files.tensors())
    if (stored.dtype == file_type(DType::bf16)) return DType::bf16;
  return DType::f32;
}

void check_weights(const WeightFiles& files, const ModelConfig& config,
                   const std::vector<ModelTensor>& tensors) {
  std::set<std::string> known;
  for (const ModelTensor& tensor : tensors) known.insert(tensor.name);
  for (const Source& bias : absent_biases(config)) {
    known.insert(bias.name);
    require_zeros(files, bias);
  }
  if (config.tied) known.insert("lm_head.weight");
  refuse_unknown(files, known);
  for (const ModelTensor& tensor : tensors) require_stored(files, tensor.name, tensor.shape);
}

void load_model(const std::filesystem::path& dir, const ModelConfig& config,
                const std::vector<ModelTensor>& tensors, TensorAccess access,
                const std::string& file) {
  load(dir, config, tensors, access, file, false);
}

void load_masters(const std::filesystem::path& dir, const ModelConfig& config,
                  const std::vector<ModelTensor>& tensors, TensorAccess access,
                  const std::string& file) {
  load(dir, config, tensors, access, file, true);
}

}  // namespace sluice
