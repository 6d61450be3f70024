#include "checkpoint/export_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "checkpoint/safetensors.h"

namespace sluice {
namespace {

constexpr std::int64_t piece_numbers = 1 << 20;
constexpr std::size_t piece_bytes = std::size_t{64} << 20;

struct Piece {
  const ModelTensor* tensor;
  const StoredTensor* stored;
  TensorInfo info;
};
using Shard = std::vector<Piece>;

std::vector<Shard> cut(const WeightFiles& files, const std::vector<ModelTensor>& tensors,
                       const ExportOptions& options) {
  std::vector<Shard> out(1);
  std::int64_t bytes = 0;
  for (const ModelTensor& tensor : tensors) {
    const StoredTensor& stored = require_stored(files, tensor.name, tensor.shape);
    const std::string dtype = options.dtype.empty() ? stored.dtype : options.dtype;
    const std::int64_t size = tensor.count() * *safetensors_bits(dtype) / 8;
    if (!out.back().empty() && bytes + size > options.shard_bytes) {
      out.emplace_back();
      bytes = 0;
    }
    bytes += size;
    out.back().push_back({&tensor, &stored, {tensor.name, dtype, tensor.shape, 0, size}});
  }
  return out;
}

void write_bytes(SafetensorsWriter& writer, const WeightFiles& files, const Piece& piece) {
  const std::span<const std::byte> bytes = piece.stored->bytes;
  for (std::size_t at = 0; at < bytes.size(); at += piece_bytes) {
    const auto part = bytes.subspan(at, std::min(piece_bytes, bytes.size() - at));
    writer.write(piece.info.name, part);
    files.forget(*piece.stored, part);
  }
}

// float32 numbers in the type of a file, in place.
std::span<const std::byte> encode(std::span<float> numbers, const std::string& dtype,
                                  std::vector<std::uint16_t>& narrow) {
  if (dtype == "F32") return std::as_bytes(numbers);
  narrow.resize(numbers.size());
  std::transform(numbers.begin(), numbers.end(), narrow.begin(),
                 [&](float x) { return dtype == "BF16" ? bf16(x).bits : float_to_half(x); });
  return std::as_bytes(std::span<const std::uint16_t>(narrow));
}

void write_piece(SafetensorsWriter& writer, const WeightFiles& files, const Piece& piece) {
  if (piece.stored->dtype == piece.info.dtype && piece.stored->strides.empty())
    return write_bytes(writer, files, piece);
  std::vector<float> numbers;
  std::vector<std::uint16_t> narrow;
  const std::int64_t count = piece.stored->count();
  for (std::int64_t first = 0; first < count; first += piece_numbers) {
    numbers.resize(static_cast<std::size_t>(std::min(piece_numbers, count - first)));
    read_numbers(*piece.stored, first, numbers);
    writer.write(piece.info.name, encode(numbers, piece.info.dtype, narrow));
    const auto read = static_cast<std::int64_t>(numbers.size());
    files.forget(*piece.stored, bytes_of_piece(*piece.stored, first, read));
  }
}

ExportedFile write_shard(const WeightFiles& files, const Shard& shard,
                         const std::filesystem::path& dir, const std::string& name,
                         Faults& faults) {
  std::vector<TensorInfo> infos;
  for (const Piece& piece : shard) infos.push_back(piece.info);
  SafetensorsWriter writer(dir / name, infos, {{"format", "pt"}}, faults);
  const std::vector<TensorInfo> order = writer.tensors();
  for (const TensorInfo& info : order)
    write_piece(writer, files, *std::find_if(shard.begin(), shard.end(), [&](const Piece& piece) {
                  return piece.info.name == info.name;
                }));
  return {name, writer.finish()};
}

// What config.json calls the widest of the types.
const char* type_name(const std::vector<Shard>& shards) {
  const auto any = [&](const char* dtype) {
    return std::any_of(shards.begin(), shards.end(), [&](const Shard& shard) {
      return std::any_of(shard.begin(), shard.end(),
                         [&](const Piece& piece) { return piece.info.dtype == dtype; });
    });
  };
  return any("BF16") ? "bfloat16" : any("F16") ? "float16" : "float32";
}

std::string config_text(const ModelConfig& config, const std::vector<Shard>& shards,
                        const ExportOptions& options) {
  nlohmann::json json = family_of(config).to_config(config);
  json["dtype"] = json["torch_dtype"] = type_name(shards);  // the second for older readers
  if (options.end_of_text >= 0) json["bos_token_id"] = json["eos_token_id"] = options.end_of_text;
  return json.dump(2) + "\n";
}

}  // namespace

ExportedFile export_text(const std::filesystem::path& dir, const std::string& name,
                         std::string_view text, Faults& faults) {
  DurableFile file(dir / name, faults);
  file.write(text);
  return {name, file.finish()};
}

std::vector<ExportedFile> export_model(const WeightFiles& files, const ModelConfig& config,
                                       const std::filesystem::path& dir,
                                       const ExportOptions& options, Faults& faults) {
  const std::vector<ModelTensor> tensors = model_tensors(config);
  check_weights(files, config, tensors);
  const std::vector<Shard> shards = cut(files, tensors, options);
  std::vector<ExportedFile> out;
  out.push_back(export_text(dir, "config.json", config_text(config, shards, options), faults));
  if (shards.size() == 1) {
    out.push_back(write_shard(files, shards.front(), dir, "model.safetensors", faults));
    return out;
  }
  nlohmann::json map = nlohmann::json::object();
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const Piece& piece : shards[i]) map[piece.info.name] = name, bytes += piece.info.bytes;
    out.push_back(write_shard(files, shards[i], dir, name, faults));
  }
  const nlohmann::json index = {{"metadata", {{"total_size", bytes}}}, {"weight_map", map}};
  out.push_back(export_text(dir, "model.safetensors.index.json", index.dump(2) + "\n", faults));
  return out;
}

}  // namespace sluice
