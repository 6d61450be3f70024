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

std::unique_ptr<Backend> make_cuda(int) { refuse(); }
std::int64_t cuda_bytes_in_use(int) { return 0; }

}  // namespace sluice
