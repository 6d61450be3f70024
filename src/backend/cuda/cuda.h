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
  std::string name;  // "NVIDIA H200"
  std::int64_t memory = 0, free = 0;
};

// Whether this program has the GPU's kernels in it.
bool built_with_cuda();
// GPUs that a run could use; 0 without a driver.
int cuda_devices();

// Exit::usage, with what to install: no kernels in this program, no driver or one too old, no such
// GPU, one that the kernels were not built for, cuBLASLt not found.
CudaDevice cuda_device(int index);
std::unique_ptr<Backend> make_cuda(int index);

}  // namespace sluice
