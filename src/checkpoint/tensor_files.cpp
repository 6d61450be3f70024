#include "checkpoint/tensor_files.h"

#include <algorithm>
#include <cstring>

namespace sluice {
namespace {

constexpr std::int64_t piece_bytes = 64 << 20;

void write_in_pieces(SafetensorsWriter& writer, const std::string& name,
                     std::span<const std::byte> bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += piece_bytes)
    writer.write(name, bytes.subspan(at, std::min<std::size_t>(piece_bytes, bytes.size() - at)));
}

std::string text_of(const std::string& type, const std::vector<std::int64_t>& shape) {
  return fmt::format("{} [{}]", type, fmt::join(shape, ", "));
}

}  // namespace

const char* file_type(DType type) {
  switch (type) {
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::f64:
      return "F64";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
    case DType::i16:
      return "I16";
    case DType::u16:
      return "U16";
    case DType::u8:
      return "U8";
  }
  throw Error("corrupt DType");
}

void write_tensors(CheckpointSave& save, const char* file, const std::vector<Source>& sources,
                   TensorAccess access) {
  std::vector<TensorInfo> infos;
  for (const Source& source : sources)
    infos.push_back({source.name, file_type(source.type), source.shape, 0, 0});
  SafetensorsWriter& writer = save.open_safetensors(file, std::move(infos), {{"format", "pt"}});
  const std::vector<TensorInfo> order = writer.tensors();
  for (const TensorInfo& info : order) {
    const auto source = std::find_if(sources.begin(), sources.end(),
                                     [&](const Source& s) { return s.name == info.name; });
    if (source->layer < 0) {
      const std::vector<std::byte> zeros(static_cast<std::size_t>(info.bytes));
      writer.write(info.name, zeros);
    } else {
      const auto* data = static_cast<const std::byte*>(access(source->layer, source->value).raw());
      write_in_pieces(writer, info.name, {data, static_cast<std::size_t>(info.bytes)});
    }
  }
  save.close_safetensors();
}

const TensorInfo* find_tensor(const SafetensorsFile& file, const std::string& name) {
  if (const TensorInfo* found = file.find(name)) return found;
  constexpr std::string_view prefix = "transformer.";
  return name.starts_with(prefix) ? file.find(name.substr(prefix.size())) : nullptr;
}

const TensorInfo& require_tensor(const SafetensorsFile& file, const std::string& name,
                                 std::initializer_list<DType> types,
                                 const std::vector<std::int64_t>& shape) {
  std::string expected;
  for (const DType type : types)
    expected += fmt::format("{}{}", expected.empty() ? "" : " or ", file_type(type));
  expected = text_of(expected, shape);
  const TensorInfo* info = find_tensor(file, name);
  if (info == nullptr)
    bad_tensor(file.name(), "a tensor of the model is missing", name, expected, "nothing");
  const bool known = std::any_of(types.begin(), types.end(),
                                 [&](DType type) { return info->dtype == file_type(type); });
  if (!known || info->shape != shape)
    bad_tensor(file.name(), "a tensor has another type or shape than the model's", name, expected,
               text_of(info->dtype, info->shape));
  return *info;
}

void bad_tensor(const std::filesystem::path& file, const std::string& what,
                const std::string& tensor, const std::string& expected, const std::string& found) {
  throw Error(Exit::input,
              {what, fmt::format("{} {}", file.string(), tensor), expected, found, {}});
}

void copy_bytes(const SafetensorsFile& file, const TensorInfo& info, const Tensor& to) {
  const std::span<const std::byte> bytes = file.bytes(info);
  auto* const data = static_cast<std::byte*>(to.raw());
  for (std::size_t at = 0; at < bytes.size(); at += piece_bytes) {
    const auto piece = bytes.subspan(at, std::min<std::size_t>(piece_bytes, bytes.size() - at));
    std::memcpy(data + at, piece.data(), piece.size());
    file.forget(piece);
  }
  std::memset(data + bytes.size(), 0, static_cast<std::size_t>(to.bytes()) - bytes.size());
}

}  // namespace sluice
