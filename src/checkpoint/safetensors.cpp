#include "checkpoint/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "checkpoint/safetensors_header.h"

namespace sluice {

namespace {

std::uint64_t read_u64(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// The reference writer's order: widest type first, then by name.
void sort_for_writing(std::vector<TensorInfo>& infos) {
  std::sort(infos.begin(), infos.end(), [](const TensorInfo& a, const TensorInfo& b) {
    const int rank_a = safetensors_rank(a.dtype), rank_b = safetensors_rank(b.dtype);
    return rank_a != rank_b ? rank_a > rank_b : a.name < b.name;
  });
}

// Sorts `infos`, fills in their places and returns the length and the JSON, padded with spaces.
std::string lay_out(std::vector<TensorInfo>& infos,
                    const std::map<std::string, std::string>& metadata, const std::string& name) {
  sort_for_writing(infos);
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  std::int64_t offset = 0;
  for (TensorInfo& info : infos) {
    info.bytes = safetensors_bytes(info, name);
    info.offset = offset;
    offset += info.bytes;
    require(info.name != "__metadata__" && !json.contains(info.name), [&] {
      return Error(Exit::input,
                   {fmt::format("two tensors are called {}", info.name), name, {}, {}, {}});
    });
    json[info.name] = {
        {"dtype", info.dtype}, {"shape", info.shape}, {"data_offsets", {info.offset, offset}}};
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(Exit::input, {"a tensor's name is not UTF-8", name, {}, {}, {}});
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  // What we write is what we would read.
  SafetensorsHeader check = parse_safetensors_header(text, name);
  check_safetensors_layout(check.tensors, static_cast<std::uint64_t>(offset), name);

  std::string out;
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(text.size() >> (8 * i) & 0xff));
  return out + text;
}

}  // namespace

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> file, std::string name) {
  require(file.size() >= 8, [&] {
    return safetensors_error(name, "", "it is too short", "at least 8 bytes",
                             fmt::format("{} bytes", file.size()));
  });
  const std::uint64_t header_size = read_u64(file);
  require(header_size <= SafetensorsLimits::header_bytes && header_size <= file.size() - 8, [&] {
    return safetensors_error(
        name, "", "its header does not fit",
        fmt::format("at most {} bytes of header",
                    std::min<std::uint64_t>(SafetensorsLimits::header_bytes, file.size() - 8)),
        fmt::format("{} bytes", header_size));
  });
  SafetensorsFile out;
  out.data_ = file.subspan(8 + header_size);
  SafetensorsHeader header =
      parse_safetensors_header({reinterpret_cast<const char*>(file.data()) + 8, header_size}, name);
  check_safetensors_layout(header.tensors, out.data_.size(), name);
  out.name_ = std::move(name);
  out.tensors_ = std::move(header.tensors);
  out.metadata_ = std::move(header.metadata);
  out.by_name_.resize(out.tensors_.size());
  std::iota(out.by_name_.begin(), out.by_name_.end(), std::size_t{0});
  std::sort(out.by_name_.begin(), out.by_name_.end(), [&](std::size_t a, std::size_t b) {
    return out.tensors_[a].name < out.tensors_[b].name;
  });
  return out;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  MappedFile mapping(path.string());
  SafetensorsFile out = parse(mapping.bytes(), path.string());
  out.mapping_ = std::move(mapping);  // the bytes stay where they are
  return out;
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](std::size_t i, std::string_view n) { return tensors_[i].name < n; });
  if (found == by_name_.end() || tensors_[*found].name != name) return nullptr;
  return &tensors_[*found];
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorInfo& info) const {
  return data_.subspan(static_cast<std::size_t>(info.offset), static_cast<std::size_t>(info.bytes));
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorInfo> infos,
                                     const std::map<std::string, std::string>& metadata,
                                     Faults& faults)
    : tensors_(std::move(infos)), file_(path, faults) {
  file_.write(lay_out(tensors_, metadata, path.string()));
  skip_complete();
}

void SafetensorsWriter::skip_complete() {
  while (current_ < tensors_.size() && written_ == tensors_[current_].bytes) {
    ++current_;
    written_ = 0;
  }
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> piece) {
  if (piece.empty()) return;
  require(current_ < tensors_.size() && tensors_[current_].name == name,
          [&] { return Error(fmt::format("tensor {} is written out of order", name)); });
  const auto size = static_cast<std::int64_t>(piece.size());
  require(size <= tensors_[current_].bytes - written_, [&] {
    return Error(fmt::format("tensor {} has {} bytes, and more are written", name,
                             tensors_[current_].bytes));
  });
  file_.write(piece);
  written_ += size;
  skip_complete();
}

WrittenFile SafetensorsWriter::finish() {
  require(current_ == tensors_.size(),
          [&] { return Error(fmt::format("tensor {} is not complete", tensors_[current_].name)); });
  return file_.finish();
}

}  // namespace sluice
