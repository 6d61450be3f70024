#include "checkpoint/model_files.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/file.h"
#include "core/hash.h"

namespace sluice {
namespace {

constexpr std::int64_t piece_bytes = 64 << 20;

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

void write_in_pieces(SafetensorsWriter& writer, const std::string& name,
                     std::span<const std::byte> bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += piece_bytes)
    writer.write(name, bytes.subspan(at, std::min<std::size_t>(piece_bytes, bytes.size() - at)));
}

// Writes float32 tensors in the order that the file wants them.
struct Source {
  std::string name;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;  // empty: zeros
};

void write_file(CheckpointSave& save, const char* file, const std::vector<Source>& sources) {
  std::vector<TensorInfo> infos;
  for (const Source& source : sources) infos.push_back({source.name, "F32", source.shape, 0, 0});
  SafetensorsWriter& writer = save.open_safetensors(file, std::move(infos), {{"format", "pt"}});
  const std::vector<TensorInfo> order = writer.tensors();
  for (const TensorInfo& info : order) {
    const auto source = std::find_if(sources.begin(), sources.end(),
                                     [&](const Source& s) { return s.name == info.name; });
    if (source->bytes.empty()) {
      const std::vector<std::byte> zeros(static_cast<std::size_t>(info.bytes));
      writer.write(info.name, zeros);
    } else {
      write_in_pieces(writer, info.name, source->bytes);
    }
  }
  save.close_safetensors();
}

[[noreturn]] void bad_model(const std::filesystem::path& file, const std::string& what,
                            const std::string& tensor, const std::string& expected,
                            const std::string& found) {
  throw Error(Exit::input,
              {what, fmt::format("{} {}", file.string(), tensor), expected, found, {}});
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("F32 [{}]", fmt::join(shape, ", "));
}

const TensorInfo* find_tensor(const SafetensorsFile& file, const std::string& name) {
  if (const TensorInfo* found = file.find(name)) return found;
  constexpr std::string_view prefix = "transformer.";
  return name.starts_with(prefix) ? file.find(name.substr(prefix.size())) : nullptr;
}

void copy_tensor(const SafetensorsFile& file, const ModelTensor& wanted, const std::string& name,
                 const Tensor& to) {
  const TensorInfo* info = find_tensor(file, name);
  if (info == nullptr)
    bad_model(file.name(), "a tensor of the model is missing", name, shape_text(wanted.shape),
              "nothing");
  if (info->dtype != "F32" || info->shape != wanted.shape)
    bad_model(file.name(), "a tensor has another type or shape than the model's", name,
              shape_text(wanted.shape),
              fmt::format("{} [{}]", info->dtype, fmt::join(info->shape, ", ")));
  const std::span<const std::byte> bytes = file.bytes(*info);
  auto* const data = static_cast<std::byte*>(to.raw());
  std::memcpy(data, bytes.data(), bytes.size());
  // The padding of a vocabulary lies behind its rows.
  std::memset(data + bytes.size(), 0, static_cast<std::size_t>(to.bytes()) - bytes.size());
}

std::vector<Source> absent_biases(const ModelConfig& config) {
  std::vector<Source> out;
  if (config.biases) return out;
  const Family& family = family_of(config);
  for (int block = 0; block < config.layers; ++block)
    for (const std::string& name : family.absent_biases()) {
      std::int64_t size = config.width;
      if (name == "attn.c_attn.bias") size = 3 * config.width;
      if (name == "mlp.c_fc.bias" || name == "mlp.fc_in.bias") size = config.inner_width();
      out.push_back({family.tensor_name(LayerKind::block, block, name), {size}, {}});
    }
  return out;
}

// Anything in the file that the model has no place for, buffers of attention masks apart.
void refuse_unknown(const SafetensorsFile& file, const std::set<std::string>& known) {
  for (const TensorInfo& info : file.tensors()) {
    const bool mask = info.name.ends_with(".attn.bias") || info.name.ends_with(".attn.masked_bias");
    if (mask || known.contains(info.name) || known.contains("transformer." + info.name)) continue;
    bad_model(file.name(), "the file has a tensor that this model lacks", info.name, "nothing",
              fmt::format("{} [{}]", info.dtype, fmt::join(info.shape, ", ")));
  }
}

void require_zeros(const SafetensorsFile& file, const Source& bias) {
  const TensorInfo* info = find_tensor(file, bias.name);
  if (info == nullptr) return;
  const std::span<const std::byte> bytes = file.bytes(*info);
  if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; }))
    bad_model(file.name(), "the file has a bias that this model lacks", bias.name, "zeros",
              "numbers");
}

}  // namespace

std::vector<ModelTensor> model_tensors(const ModelGraphs& model, const ModelConfig& config) {
  const Family& family = family_of(config);
  std::vector<ModelTensor> out;
  for (int layer = 0; layer < model.layer_count(); ++layer) {
    const LayerKind kind = model.kind_of(layer);
    for (const Parameter& p : model.of(kind).parameters)
      out.push_back({layer, p.name, family.tensor_name(kind, layer - 1, p.name),
                     stored_shape(model.of(kind), p), p.count() * 4});
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
  save.add_file("config.json", family_of(config).to_config(config).dump(2) + "\n");
  std::vector<Source> sources = absent_biases(config);
  for (const ModelTensor& tensor : tensors)
    sources.push_back(
        {tensor.name, tensor.shape, real_bytes(access(tensor.layer, tensor.value), tensor)});
  write_file(save, "model.safetensors", sources);
}

void save_moments(CheckpointSave& save, const std::vector<ModelTensor>& tensors,
                  TensorAccess access) {
  std::vector<Source> sources;
  for (const ModelTensor& tensor : tensors)
    for (const char* moment : {"m.", "v."})
      sources.push_back({moment + tensor.name, tensor.shape,
                         real_bytes(access(tensor.layer, moment + tensor.value), tensor)});
  write_file(save, "optimizer.safetensors", sources);
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

void load_model(const std::filesystem::path& dir, const ModelConfig& config,
                const std::vector<ModelTensor>& tensors, TensorAccess access) {
  const SafetensorsFile file = SafetensorsFile::open(dir / "model.safetensors");
  std::set<std::string> known;
  for (const ModelTensor& tensor : tensors) known.insert(tensor.name);
  for (const Source& bias : absent_biases(config)) {
    known.insert(bias.name);
    require_zeros(file, bias);
  }
  if (config.tied) known.insert("lm_head.weight");
  refuse_unknown(file, known);
  for (const ModelTensor& tensor : tensors)
    copy_tensor(file, tensor, tensor.name, access(tensor.layer, tensor.value));
}

void load_moments(const std::filesystem::path& dir, const std::vector<ModelTensor>& tensors,
                  TensorAccess access) {
  const SafetensorsFile file = SafetensorsFile::open(dir / "optimizer.safetensors");
  for (const ModelTensor& tensor : tensors)
    for (const char* moment : {"m.", "v."})
      copy_tensor(file, tensor, moment + tensor.name, access(tensor.layer, moment + tensor.value));
}

}  // namespace sluice
