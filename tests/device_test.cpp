// plan.device where there is no GPU, whatever this program was built with; and what is said of GPUs
// that a driver for tests makes up (tests/fake_gpu). The rows of errors.tsv have the rest.
#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/gpu_findings.h"
#include "backend/cuda/library.h"
#include "backend/cuda/usable.h"
#include "core/test_folder.h"
#include "process.h"

namespace sluice {
namespace {

const std::string no_driver =
    "sluice: error: there is no NVIDIA driver\n"
    "  where: command line plan.device\n"
    "  expected: an NVIDIA driver for CUDA 13.0\n"
    "  found: no libcuda.so.1 that can be loaded\n"
    "  try: apt install nvidia-driver, on a machine with an NVIDIA GPU\n"
    "  try: plan.device = \"cpu\"\n";

TEST(Device, WithoutAGpuSaysWhatIsMissing) {
  if (cuda_devices() > 0) return;
  const TestFolder folder;
  for (const char* command :
       {"tiny; sluice train tiny.toml --out run --plan.device=cuda:0",
        "tiny; sluice plan tiny.toml --plan.device=cuda:0",
        "trained; sluice eval --checkpoint run --data corpus-val --plan.device=cuda:0",
        "trained; sluice generate --checkpoint run --prompt The --plan.device=cuda:3"}) {
    const Ended ended = run_command(command, folder.path());
    EXPECT_EQ(ended.exit, 2) << command;
    EXPECT_EQ(ended.err, no_driver) << command;
  }
}

TEST(Device, ANameThatIsNone) {
  EXPECT_EQ(cuda_index("auto"), -1);
  EXPECT_EQ(cuda_index("cpu"), -1);
  EXPECT_EQ(cuda_index("cuda:7"), 7);
  for (const char* name : {"cuda:", "cuda:-1", "cuda:1x", "gpu", "", "cuda0", "cuda:9999999999"})
    EXPECT_THROW((void)cuda_index(name), Error) << name;
}

CudaFacts facts_with(int capability, int count = 1) {
  CudaFacts out{13000, {}, {}};
  for (int i = 0; i < count; ++i) {
    out.gpus.emplace_back();
    out.gpus.back().name = "NVIDIA Test GPU";
    out.gpus.back().major = capability / 10, out.gpus.back().minor = capability % 10;
  }
  return out;
}

std::string refusal(const CudaFacts& facts, const CudaBuild& build, int index = 0) {
  try {
    require_gpu(facts, build, index);
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.text();
  }
}

TEST(Device, ACapabilityThatWasNotBuiltIsRefusedWithThoseThatWere) {
  const CudaBuild build{true, 13000, {80, 90}};
  EXPECT_EQ(refusal(facts_with(75), build),
            "sluice: error: this program has no kernels for NVIDIA Test GPU\n"
            "  where: plan.device\n"
            "  expected: compute capability 8.0, 9.0 or later\n"
            "  found: 7.5\n"
            "  try: a build with SLUICE_CUDA_ARCHITECTURES=75\n"
            "  try: plan.device = \"cpu\"\n");
  for (const int capability : {80, 86, 90, 100, 120})
    EXPECT_EQ(refusal(facts_with(capability), build), "") << capability;
  EXPECT_NE(refusal(facts_with(86), {true, 13000, {90}}), "");
}

TEST(Device, DriversAndNumbersOfGpus) {
  const CudaBuild build{true, 13020, {90}};
  CudaFacts facts = facts_with(90, 2);
  EXPECT_EQ(refusal(facts, build), "") << "minor versions go together";
  EXPECT_EQ(refusal(facts, build, 1), "");
  EXPECT_NE(refusal(facts, build, 2).find("expected: cuda:0 to cuda:1\n"), std::string::npos);
  facts.driver = 12080;
  EXPECT_NE(refusal(facts, build).find("found: one for CUDA 12.8\n"), std::string::npos);
  facts = {13000, "no CUDA-capable device is detected", {}};
  EXPECT_NE(refusal(facts, build).find("found: no CUDA-capable device is detected\n"),
            std::string::npos);
}

std::string refusal(const NeededLibrary& needed, const FoundLibrary& found) {
  try {
    require_library(needed, found);
    return "";
  } catch (const Error& e) {
    return e.text();
  }
}

TEST(Device, LibrariesAreNamedWithTheCommandThatInstallsThem) {
  const NeededLibrary& cublas = needed_libraries().front();
  EXPECT_EQ(refusal(cublas, {cublas.file, "/lib/libcublasLt.so.13", 130100}), "");
  EXPECT_EQ(refusal(cublas, {cublas.file, "", 0}),
            "sluice: error: libcublasLt.so.13 was not found: matrix products need it\n"
            "  where: plan.device\n"
            "  expected: the library in the system's search path, the CUDA toolkit or Python's "
            "nvidia/*\n"
            "  found: none\n"
            "  try: pip install nvidia-cublas\n"
            "  try: LD_LIBRARY_PATH=FOLDER, where it lies elsewhere\n"
            "  try: plan.device = \"cpu\"\n");
  for (const std::size_t version : {std::size_t{0}, std::size_t{120900}})
    EXPECT_NE(refusal(cublas, {cublas.file, "/lib/l", version})
                  .find("libcublasLt.so.13 is another version than this program needs\n"),
              std::string::npos);
  const NeededLibrary none{"libsluice-none.so.1", "none", "nothing", "none", 1};
  EXPECT_TRUE(find_library(none).path.empty());
}

TEST(Device, AutoTakesAGpuThatCanBeUsed) {
  const CudaBuild build{true, 13000, {90}}, without;
  const NeededLibrary& cublas = needed_libraries().front();
  const FoundLibrary good{cublas.file, "/lib/l", 130100}, missing{cublas.file, "", 0};
  std::vector<FoundLibrary> libraries;
  for (const NeededLibrary& one : needed_libraries())
    libraries.push_back({one.file, "/lib/l", one.least});
  EXPECT_EQ(choose_device(facts_with(90), build, libraries).device, "cuda:0");
  const auto why = [&](const CudaFacts& facts, const CudaBuild& with) {
    const ChosenDevice chosen = choose_device(facts, with, libraries);
    EXPECT_EQ(chosen.device, "cpu");
    return chosen.why;
  };
  EXPECT_EQ(why({}, build), "") << "nothing of NVIDIA's is there, so nothing is said of it";
  EXPECT_EQ(why(facts_with(90), without), "this program was built without CUDA");
  EXPECT_EQ(why(facts_with(75), build), "this program has no kernels for NVIDIA Test GPU");
  EXPECT_EQ(why({12040, {}, {}}, build), "the NVIDIA driver is too old");
  EXPECT_EQ(why({13000, "none", {}}, build), "there is no GPU that can be used");
  libraries.front() = missing;
  EXPECT_EQ(why(facts_with(90), build), "libcublasLt.so.13 was not found: matrix products need it");
}

GpuExamined healthy() {
  GpuExamined out{facts_with(90), {true, 13000, {90}}, {}, {}};
  for (const NeededLibrary& one : needed_libraries())
    out.libraries.push_back({one.file, "/lib/l", one.least});
  GpuState state;
  state.known = true;
  state.width = state.most_width = 16;
  state.limit = state.usual = 700;
  out.states.push_back(state);
  return out;
}

std::string first_of(const GpuExamined& examined) {
  const std::vector<Finding> found = gpu_findings(examined);
  return found.empty() ? "" : found.front().what + " | " + found.front().remedy;
}

TEST(Device, FindingsSayWhatIsWrongAndWhatToDo) {
  EXPECT_EQ(first_of(healthy()), "");
  EXPECT_EQ(first_of({}), "") << "nothing of NVIDIA's is there";
  GpuExamined one = healthy();
  one.facts.driver = 12080;
  EXPECT_EQ(first_of(one),
            "the NVIDIA driver is too old | apt install nvidia-driver, for a newer one");
  one = healthy();
  one.build = {};
  EXPECT_EQ(first_of(one),
            "this program was built without CUDA: it cannot use the GPU | make setup-cuda, then "
            "make build");
  one = healthy();
  one.libraries.front().path.clear();
  EXPECT_EQ(first_of(one),
            "libcublasLt.so.13 was not found: matrix products need it | pip install nvidia-cublas");
  one = healthy();
  one.states[0].used = std::int64_t{120} << 30;
  EXPECT_EQ(first_of(one),
            "GPU 0: other programs have 120.0 GiB of its memory | end them: nvidia-smi lists them");
  one = healthy();
  one.states[0].width = 8;
  EXPECT_EQ(gpu_findings(one).size(), 1u);
  one.states[0].limit = 500;
  EXPECT_EQ(gpu_findings(one).size(), 2u);
  one.states[0].lost = 1;
  EXPECT_EQ(gpu_findings(one).size(), 3u);
  one.states[0].known = false;
  EXPECT_EQ(first_of(one), "") << "what nobody says is not wrong";
}

// What a run says that auto leaves on the CPU, beside a GPU that it cannot take.
TEST(Device, AutoSaysWhyItIsTheCpu) {
  const TestFolder folder;
  const Ended ended = run_command(
      "tiny; with_gpu; export FAKE_CUDA_VERSION=12040; sluice train tiny.toml --out run",
      folder.path());
  EXPECT_EQ(ended.exit, 0) << ended.err;
  EXPECT_NE(
      ended.err.find("\nsluice: plan.device = auto is the CPU: the NVIDIA driver is too old\n"),
      std::string::npos)
      << ended.err;
  EXPECT_NE(ended.err.find(" | 1 threads, "), std::string::npos);
}

// A plan for a GPU counts its memory.
TEST(Device, APlanCountsTheMemoryOfTheGpu) {
  const TestFolder folder;
  const std::string plan = "with_gpu; sluice plan tiny.toml --plan.device=cuda:0";
  const Ended ended = run_command("tiny; " + plan, folder.path());
  EXPECT_EQ(ended.exit, 0) << ended.err;
  for (const char* text : {"\ndevice: NVIDIA Test GPU (cuda:0)\n", "\nrest  ", " 704643072\n",
                           " of 139.0 GiB available of the GPU's memory: fits\n",
                           "\nand of the host's memory:\n", " available of the host's: fits\n"})
    EXPECT_NE(ended.out.find(text), std::string::npos) << text << "\n" << ended.out;
  const Ended small = run_command("export FAKE_CUDA_FREE=706000000; " + plan, folder.path());
  EXPECT_EQ(small.exit, 0) << small.err;
  EXPECT_NE(small.out.find(" available of the GPU's memory: does not fit\n"), std::string::npos)
      << small.out;
  EXPECT_NE(small.out.find("\nother programs have 138.3 GiB of the GPU's memory: nvidia-smi lists "
                           "them\n"),
            std::string::npos)
      << small.out;
  EXPECT_NE(small.out.find("\n  try: "), std::string::npos);
}

}  // namespace
}  // namespace sluice
