// Tensors in and out of one safetensors file: what model files and state files share. Private to
// this room.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/model_files.h"

namespace sluice {

// safetensors' name of a type: "F32", "BF16", "I16", "U8".
const char* file_type(DType type);

// One tensor to be written: the first bytes of a value in a layer, what follows is padding.
struct Source {
  std::string name;
  DType type = DType::f32;
  std::vector<std::int64_t> shape;
  int layer = -1;  // -1: zeros
  std::string value;
};
// Writes a file of the checkpoint, tensors in the order that the format wants. Asks for one at a
// time, when it is its turn.
void write_tensors(CheckpointSave& save, const char* file, const std::vector<Source>& sources,
                   TensorAccess access);

// A tensor by its Hugging Face name, "transformer." in front or not; null when absent.
const TensorInfo* find_tensor(const SafetensorsFile& file, const std::string& name);
// The same; Exit::input unless it is there with one of `types` and this shape.
const TensorInfo& require_tensor(const SafetensorsFile& file, const std::string& name,
                                 std::initializer_list<DType> types,
                                 const std::vector<std::int64_t>& shape);

[[noreturn]] void bad_tensor(const std::filesystem::path& file, const std::string& what,
                             const std::string& tensor, const std::string& expected,
                             const std::string& found);

// The file's bytes into a tensor of the same type; what memory has beyond them (the padding of a
// vocabulary, which lies behind its rows) becomes zero.
void copy_bytes(const SafetensorsFile& file, const TensorInfo& info, const Tensor& to);

}  // namespace sluice
