// Any bytes as a file of PyTorch's: refused with an Error, or tensors that lie inside the file.
#include "checkpoint/torch_file.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  if (!sluice::is_torch_file(file)) return 0;
  try {
    for (const sluice::StoredTensor& tensor : sluice::read_torch_file(file, "file")) {
      const auto* first = tensor.bytes.data();
      if (!tensor.bytes.empty() &&
          (first < file.data() || first + tensor.bytes.size() > file.data() + size))
        std::abort();
      std::vector<float> numbers(
          static_cast<std::size_t>(std::min<std::int64_t>(tensor.count(), 100)));
      if (!sluice::is_readable(tensor) || numbers.empty()) continue;
      sluice::read_numbers(tensor, 0, numbers);
      sluice::read_numbers(tensor, tensor.count() - static_cast<std::int64_t>(numbers.size()),
                           numbers);
    }
    sluice::verify_torch_file(file, "file", [](std::span<const std::byte>) {});
  } catch (const sluice::Error& e) {
    if (e.code() != sluice::Exit::input) std::abort();
  }
  return 0;
}
