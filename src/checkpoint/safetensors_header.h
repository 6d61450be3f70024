// The JSON header of a safetensors file: the part of the format where hostile input lives. Private
// to safetensors.cpp and its tests.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace sluice {

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // sorted by place
  std::map<std::string, std::string> metadata;
};

// Parses and checks everything that can be checked without the data section. `file` names the file
// in messages. Errors: Exit::input.
SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& file);
// The tensors tile exactly `data_bytes` bytes. REQUIRES: sorted by place.
void check_safetensors_layout(const std::vector<TensorInfo>& tensors, std::uint64_t data_bytes,
                              const std::string& file);

// Place of a type in the format's list, narrowest first; -1 when there is no such type.
int safetensors_rank(std::string_view dtype);
// Size of a tensor by its type and shape; checks type, rank, dimensions and overflow.
std::int64_t safetensors_bytes(const TensorInfo& info, const std::string& file);
// "FILE is not a usable safetensors file: WHAT" with the tensor, when known, in the second line.
Error safetensors_error(const std::string& file, std::string_view tensor, std::string_view what,
                        std::string expected, std::string found);

}  // namespace sluice
