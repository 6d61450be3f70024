// Any bytes as a safetensors file: refused with an Error, or tensors that lie inside the file.
#include "checkpoint/safetensors.h"

#include <cstdlib>

#include "core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    const auto read = sluice::SafetensorsFile::parse(file, "file");
    for (const sluice::TensorInfo& info : read.tensors()) {
      const auto bytes = read.bytes(info);
      if (read.find(info.name) == nullptr || bytes.size() > size) std::abort();
      if (!bytes.empty() &&
          (bytes.data() < file.data() || bytes.data() + bytes.size() > file.data() + size))
        std::abort();
    }
  } catch (const sluice::Error& e) {
    if (e.code() != sluice::Exit::input) std::abort();
  }
  return 0;
}
