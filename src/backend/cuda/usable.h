// Whether a run can use a GPU, and if not, what a person is told: pure functions of what the
// machine has and of what this program was built with.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/present.h"
#include "core/error.h"

namespace sluice {

// What this program has of CUDA.
struct CudaBuild {
  bool kernels = false;
  int version = 13000;     // of the runtime that it was built with, or needs
  std::vector<int> built;  // compute capabilities, 90 being 9.0; a later one runs them too
};
CudaBuild cuda_build();

// A library that a run on a GPU loads.
struct NeededLibrary {
  const char* file;     // "libcublasLt.so.13"
  const char* package;  // that pip would install
  const char* what;     // "matrix products"
  const char* version;  // the function that says its version
  std::size_t least;    // that does
};
std::span<const NeededLibrary> needed_libraries();

// Where a library was found, and which version it is.
struct FoundLibrary {
  std::string file, path;   // path empty: nowhere
  std::size_t version = 0;  // 0: it does not say
};
// Loads it, and leaves it loaded.
FoundLibrary find_library(const NeededLibrary& library);

// A library that this program has loaded; path empty: it has not.
FoundLibrary loaded_library(const char* file, const char* version);

// Exit::usage, `where` being plan.device: no driver or one too old, no such GPU, one that the
// kernels were not built for. A program without kernels passes here: make_cuda() refuses it.
void require_gpu(const CudaFacts& facts, const CudaBuild& build, int index);
// The same of a library that is missing or of another version.
void require_library(const NeededLibrary& library, const FoundLibrary& found);
bool runs_on(const CudaBuild& build, const GpuFacts& gpu);

// What plan.device = auto stands for here: "cuda:N", or "cpu" and, where there is a driver, in a
// few words why.
struct ChosenDevice {
  std::string device, why;
};
ChosenDevice choose_device(const CudaFacts& facts, const CudaBuild& build,
                           std::span<const FoundLibrary> libraries);
// The same of this machine.
ChosenDevice choose_device();

}  // namespace sluice
