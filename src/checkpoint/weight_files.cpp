#include "checkpoint/weight_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/safetensors.h"
#include "checkpoint/torch_file.h"
#include "core/hash.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* names[] = {"model.safetensors", "model.safetensors.index.json",
                                 "pytorch_model.bin", "pytorch_model.bin.index.json"};
constexpr std::size_t most_index_bytes = 100'000'000, most_files = 10'000;
constexpr std::string_view prefix = "transformer.";

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Error bad_index(const fs::path& index, std::string what, std::string expected, std::string found) {
  return Error(Exit::input, {fmt::format("the index of the weights cannot be used: {}", what),
                             index.string(),
                             std::move(expected),
                             std::move(found),
                             {}});
}

// Tensor → file, as an index says.
std::map<std::string, std::string> weight_map(const fs::path& index) {
  const std::string text = read_file(index.string(), most_index_bytes);
  // Deeper than an index is, nothing is looked at, so that nothing recurses on its content.
  const auto shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    return depth < 4;
  };
  const nlohmann::json json = nlohmann::json::parse(text, shallow, false);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  require(json.is_object() && map != json.end() && map->is_object() && !map->empty(), [&] {
    return bad_index(index, "it names no tensors", "an object with weight_map: tensor → file",
                     "something else");
  });
  std::map<std::string, std::string> out;
  for (const auto& entry : map->items()) {
    const std::string& tensor = entry.key();
    require(entry.value().is_string(), [&] {
      return bad_index(index, fmt::format("{} has no file", tensor), "a name",
                       entry.value().dump());
    });
    const auto name = entry.value().get<std::string>();
    const bool plain = !name.empty() && name != "." && name != ".." &&
                       name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
    require(plain, [&] {
      return bad_index(index, fmt::format("the file of {} is elsewhere", tensor),
                       "the name of a file beside the index", name);
    });
    out[tensor] = name;
  }
  return out;
}

std::vector<StoredTensor> tensors_of(const MappedFile& mapping) {
  if (is_torch_file(mapping.bytes())) return read_torch_file(mapping.bytes(), mapping.path());
  const bool pickled = fs::path(mapping.path()).extension() == ".bin";
  require(!pickled, [&] {
    return Error(Exit::input, {"this is no file of PyTorch's",
                               mapping.path(),
                               "a zip archive or pickles, as torch.save writes them",
                               mapping.size() == 0 ? "an empty file" : "something else",
                               {}});
  });
  const SafetensorsFile file = SafetensorsFile::parse(mapping.bytes(), mapping.path());
  std::vector<StoredTensor> out;
  for (const TensorInfo& info : file.tensors())
    out.push_back({info.name, info.dtype, info.shape, {}, file.bytes(info), 0});
  return out;
}

}  // namespace

std::optional<std::string> weight_file_of(const fs::path& dir) {
  for (const char* name : names)
    if (present(dir / name)) return name;
  return std::nullopt;
}

WeightFiles WeightFiles::open(const fs::path& dir, const std::string& file) {
  const std::string name = file.empty() ? weight_file_of(dir).value_or(names[0]) : file;
  WeightFiles out;
  out.name_ = (dir / name).string();
  if (name.ends_with(".index.json"))
    out.add_index(dir / name);
  else
    out.add_file(dir / name);
  out.sort();
  return out;
}

void WeightFiles::add_file(const fs::path& path) {
  const MappedFile& mapping = mappings_.emplace_back(path.string());
  for (StoredTensor& tensor : tensors_of(mapping)) {
    tensor.file = mappings_.size() - 1;
    tensors_.push_back(std::move(tensor));
  }
}

void WeightFiles::add_index(const fs::path& path) {
  const std::map<std::string, std::string> map = weight_map(path);
  std::map<std::string, std::map<std::string, StoredTensor>> by_file;
  for (const auto& [tensor, file] : map) by_file[file];
  require(by_file.size() <= most_files, [&] {
    return bad_index(path, "it names too many files", fmt::format("at most {}", most_files),
                     fmt::format("{}", by_file.size()));
  });
  for (auto& [file, of_file] : by_file) {
    add_file(path.parent_path() / file);
    for (StoredTensor& tensor : tensors_) of_file[tensor.name] = std::move(tensor);
    tensors_.clear();
  }
  for (const auto& [tensor, file] : map) {
    const auto found = by_file[file].find(tensor);
    if (found == by_file[file].end())
      throw bad_index(path, "a tensor is not in its file", fmt::format("{} in {}", tensor, file),
                      "no such tensor there");
    tensors_.push_back(std::move(found->second));
  }
}

void WeightFiles::sort() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(
      tensors_.begin(), tensors_.end(),
      [](const StoredTensor& a, const StoredTensor& b) { return a.name == b.name; });
  if (twice != tensors_.end())
    throw error_at(twice->name, "a tensor's name occurs twice", "once", "twice");
}

const StoredTensor* WeightFiles::find(std::string_view name) const {
  const auto of = [&](std::string_view wanted) -> const StoredTensor* {
    const auto found = std::lower_bound(
        tensors_.begin(), tensors_.end(), wanted,
        [](const StoredTensor& tensor, std::string_view n) { return tensor.name < n; });
    return found == tensors_.end() || found->name != wanted ? nullptr : &*found;
  };
  if (const StoredTensor* found = of(name)) return found;
  return name.starts_with(prefix) ? of(name.substr(prefix.size())) : nullptr;
}

std::vector<std::string> WeightFiles::files() const {
  std::vector<std::string> out;
  for (const MappedFile& mapping : mappings_) out.push_back(mapping.path());
  return out;
}

std::string WeightFiles::hash() const {
  constexpr std::size_t piece = std::size_t{64} << 20;
  Hasher128 hasher;
  for (const MappedFile& mapping : mappings_) {
    const std::string name = fs::path(mapping.path()).filename().string();
    hasher.add(name.data(), name.size() + 1);
    for (std::size_t at = 0; at < mapping.size(); at += piece) {
      const auto bytes = mapping.bytes().subspan(at, std::min(piece, mapping.size() - at));
      hasher.add(bytes.data(), bytes.size());
      mapping.forget(bytes);
    }
  }
  return hasher.hex();
}

bool WeightFiles::verify() const {
  bool all = true;
  for (const MappedFile& mapping : mappings_)
    all = verify_torch_file(mapping.bytes(), mapping.path(),
                            [&](std::span<const std::byte> read) { mapping.forget(read); }) &&
          all;
  return all;
}

Error WeightFiles::error_at(const std::string& tensor, std::string what, std::string expected,
                            std::string found) const {
  return Error(Exit::input, {std::move(what),
                             fmt::format("{} {}", name_, tensor),
                             std::move(expected),
                             std::move(found),
                             {}});
}

void WeightFiles::forget(const StoredTensor& tensor, std::span<const std::byte> bytes) const {
  if (!bytes.empty()) mappings_[tensor.file].forget(bytes);
}

const StoredTensor& require_stored(const WeightFiles& files, const std::string& name,
                                   const std::vector<std::int64_t>& shape) {
  const std::string sizes = fmt::format("[{}]", fmt::join(shape, ", "));
  const StoredTensor* tensor = files.find(name);
  if (tensor == nullptr)
    throw files.error_at(name, "a tensor of the model is missing", sizes, "nothing");
  if (!is_readable(*tensor) || tensor->shape != shape)
    throw files.error_at(name, "a tensor has another type or shape than the model's",
                         fmt::format("F32, F16 or BF16 {}", sizes), tensor->text());
  return *tensor;
}

}  // namespace sluice
