// One NVIDIA GPU as a backend, seen from outside: no header of NVIDIA's, the same in a program that
// was built without CUDA.
//
// The driver is looked for when a GPU is asked for, so that the one binary starts where there is
// none. Any thread.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace sluice {

// "cuda" or "cuda:N" of plan.device: N; -1 for a device that is no GPU. Exit::usage for what is
// neither.
int cuda_index(const std::string& device);

struct CudaDevice {
  std::string name, bus;              // "NVIDIA H200"
  std::int64_t memory = 0, free = 0;  // bytes; free: of what other programs leave
};

// Whether this program has the GPU's kernels in it.
bool built_with_cuda();
// GPUs that there are; 0 without a driver.
int cuda_devices();

// Takes nothing of it. Exit::usage, with what to install: no driver or one too old, no such GPU,
// one that the kernels were not built for, a library that is missing or of another version.
CudaDevice cuda_device(int index);
// Exit::usage, too, in a program without kernels.
std::unique_ptr<Backend> make_cuda(int index);

// Bytes of a GPU's memory that lie beside a plan's regions, where nobody has measured them: the
// context, kernels, scratch and the workspaces of libraries.
inline constexpr std::int64_t usual_cuda_rest = std::int64_t{672} << 20;

// Bytes of a GPU's memory that are in use now, by this program and others. REQUIRES: a backend on
// it.
std::int64_t cuda_bytes_in_use(int index);

}  // namespace sluice
