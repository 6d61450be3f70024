// The weights of a folder, whatever form their files have: safetensors or PyTorch's pickles
// (torch_file.h), in one file or in several with an index. Files are mapped; what was read is let
// go of again, so that reading takes a piece of memory and no more.
//
// Nothing of a file is trusted: an index may name plain files of its own folder only, every tensor
// lies inside its file. const use from many threads is fine; the files must not be shortened
// meanwhile. Errors: Exit::input, naming file and tensor.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/stored_tensor.h"
#include "core/file.h"

namespace sluice {

// The file, or the index, with the weights in `dir`: safetensors where both forms are there, as
// Transformers takes them. None: it has no weights.
std::optional<std::string> weight_file_of(const std::filesystem::path& dir);

class WeightFiles {
 public:
  // DIR/`file`, or, where it is empty, what weight_file_of() finds.
  static WeightFiles open(const std::filesystem::path& dir, const std::string& file = {});

  // By name; a tensor of an index that its file lacks is refused when the index is read.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  // A tensor by its Hugging Face name, "transformer." in front or not; null when absent.
  const StoredTensor* find(std::string_view name) const;
  // What was opened: the file, or the index.
  const std::string& name() const { return name_; }
  // Every file with tensors, in the order of their names.
  std::vector<std::string> files() const;
  // XXH3-128 of every such file, name and bytes: one read of all.
  std::string hash() const;
  // Holds the bytes against the checksums that the files have: true when all do (PyTorch's zip
  // form). One read of those files.
  bool verify() const;
  // "no such tensor", "another shape": an Error at a tensor.
  Error error_at(const std::string& tensor, std::string what, std::string expected,
                 std::string found) const;

  // Of what was read and is not needed now.
  void forget(const StoredTensor& tensor, std::span<const std::byte> bytes) const;

 private:
  void add_file(const std::filesystem::path& path);
  void add_index(const std::filesystem::path& path);
  void sort();

  std::string name_;
  std::deque<MappedFile> mappings_;  // StoredTensor::file counts in it
  std::vector<StoredTensor> tensors_;
};

// One of the model's tensors: there, of a type that Sluice reads and of this shape.
const StoredTensor& require_stored(const WeightFiles& files, const std::string& name,
                                   const std::vector<std::int64_t>& shape);

}  // namespace sluice
