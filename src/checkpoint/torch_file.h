// What torch.save wrote of a state dict: a zip archive with one pickle and an entry per storage,
// or, before PyTorch 1.6, five pickles and the storages behind one another. Read only; what is
// allowed in the pickles is pickle.h's.
//
// Every tensor is held against its storage, every storage against the file. Pure functions; memory:
// the list of tensors. Errors: Exit::input, naming file, part and byte.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "checkpoint/stored_tensor.h"
#include "core/function_ref.h"

namespace sluice {

// Whether it begins as one of the two does.
bool is_torch_file(std::span<const std::byte> file);
// The tensors of the dictionary in it; what else a dictionary may hold is refused. `name` is what
// errors call the file, whose bytes the tensors point into.
std::vector<StoredTensor> read_torch_file(std::span<const std::byte> file, const std::string& name);

// Whether the file has checksums (a zip archive does); Exit::input when one does not agree. `after`
// sees what was read.
bool verify_torch_file(std::span<const std::byte> file, const std::string& name,
                       FunctionRef<void(std::span<const std::byte>)> after);

}  // namespace sluice
