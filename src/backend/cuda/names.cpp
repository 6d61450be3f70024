#include <algorithm>
#include <charconv>

#include "backend/cuda/cuda.h"
#include "backend/cuda/usable.h"

namespace sluice {

int cuda_index(const std::string& device) {
  if (device == "auto" || device == "cpu") return -1;
  if (device == "cuda") return 0;
  constexpr std::string_view prefix = "cuda:";
  int index = -1;
  if (device.starts_with(prefix)) {
    const char* const end = device.data() + device.size();
    const auto read = std::from_chars(device.data() + prefix.size(), end, index);
    if (read.ec != std::errc() || read.ptr != end) index = -1;
  }
  require(index >= 0 && index < 1024, [&] {
    return Error(Exit::usage, {fmt::format("plan.device cannot be {}", device),
                               "plan.device",
                               "one of auto, cpu, cuda:N",
                               device,
                               {"plan.device = \"cuda:0\""}});
  });
  return index;
}

bool built_with_cuda() { return cuda_build().kernels; }

int cuda_devices() { return static_cast<int>(cuda_facts().gpus.size()); }

CudaDevice cuda_device(int index) {
  const CudaFacts facts = cuda_facts();
  require_gpu(facts, cuda_build(), index);
  for (const NeededLibrary& one : needed_libraries()) require_library(one, find_library(one));
  const GpuFacts& gpu = facts.gpus[static_cast<std::size_t>(index)];
  const GpuState now = gpu_state(gpu.bus);
  return {gpu.name, gpu.bus, gpu.memory,
          now.known && now.free > 0 ? std::min(now.free, gpu.memory) : gpu.memory};
}

}  // namespace sluice
