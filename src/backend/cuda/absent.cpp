// A program that was built without CUDA.
#include "backend/cuda/cuda.h"

namespace sluice {
namespace {

[[noreturn]] void refuse() {
  throw Error(Exit::usage, {"this program was built without CUDA",
                            "plan.device",
                            "a build that found nvcc",
                            "no kernels for a GPU",
                            {"make setup-cuda, then make build", "plan.device = \"cpu\""}});
}

}  // namespace

bool built_with_cuda() { return false; }
int cuda_devices() { return 0; }
CudaDevice cuda_device(int) { refuse(); }
std::unique_ptr<Backend> make_cuda(int) { refuse(); }

}  // namespace sluice
