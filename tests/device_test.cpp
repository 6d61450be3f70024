// plan.device where there is no GPU, whatever this program was built with.
#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "core/test_folder.h"
#include "process.h"

namespace sluice {
namespace {

// What a person reads depends on the build and the machine; that nothing was changed does not.
std::string expected() {
  if (!built_with_cuda())
    return "sluice: error: this program was built without CUDA\n"
           "  where: command line plan.device\n"
           "  expected: a build that found nvcc\n"
           "  found: no kernels for a GPU\n"
           "  try: make setup-cuda, then make build\n"
           "  try: plan.device = \"cpu\"\n";
  return "sluice: error: there is no NVIDIA driver\n"
         "  where: command line plan.device\n"
         "  expected: an NVIDIA driver for CUDA 13.0\n"
         "  found: no libcuda.so.1\n"
         "  try: apt install nvidia-driver, on a machine with an NVIDIA GPU\n"
         "  try: plan.device = \"cpu\"\n";
}

TEST(Device, WithoutAGpuSaysWhatIsMissing) {
  if (cuda_devices() > 0) return;
  const TestFolder folder;
  for (const char* command :
       {"tiny; sluice train tiny.toml --out run --plan.device=cuda:0",
        "trained; sluice eval --checkpoint run --data corpus-val --plan.device=cuda:0",
        "trained; sluice generate --checkpoint run --prompt The --plan.device=cuda:3"}) {
    const Ended ended = run_command(command, folder.path());
    EXPECT_EQ(ended.exit, 2) << command;
    EXPECT_EQ(ended.err, expected()) << command;
  }
}

TEST(Device, ANameThatIsNone) {
  EXPECT_EQ(cuda_index("auto"), -1);
  EXPECT_EQ(cuda_index("cpu"), -1);
  EXPECT_EQ(cuda_index("cuda:7"), 7);
  for (const char* name : {"cuda:", "cuda:-1", "cuda:1x", "gpu", "", "cuda0", "cuda:9999999999"})
    EXPECT_THROW((void)cuda_index(name), Error) << name;
}

}  // namespace
}  // namespace sluice
