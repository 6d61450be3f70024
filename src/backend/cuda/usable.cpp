#include "backend/cuda/usable.h"

#include <dlfcn.h>
#include <fmt/ranges.h>
#include <link.h>

#include <algorithm>
#include <charconv>

#include "backend/cuda/library.h"

namespace sluice {
namespace {

// "90,80-real": CMake's list.
[[maybe_unused]] std::vector<int> capabilities(std::string_view list) {
  std::vector<int> out;
  while (!list.empty()) {
    const std::string_view one = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), one.size() + 1));
    int number = 0;
    std::from_chars(one.data(), one.data() + one.size(), number);
    if (number > 0) out.push_back(number);
  }
  return out;
}

Error refused(std::string what, std::string expected, std::string found,
              std::vector<std::string> tries) {
  tries.emplace_back("plan.device = \"cpu\"");
  return Error(Exit::usage, {std::move(what), "plan.device", std::move(expected), std::move(found),
                             std::move(tries)});
}

constexpr NeededLibrary libraries_of_a_run[] = {
    {"libcublasLt.so.13", "nvidia-cublas", "matrix products", "cublasLtGetVersion", 130000},
};

}  // namespace

CudaBuild cuda_build() {
#ifdef SLUICE_CUDA_BUILT
  return {true, SLUICE_CUDA_VERSION, capabilities(SLUICE_CUDA_BUILT)};
#else
  return {};
#endif
}

std::span<const NeededLibrary> needed_libraries() { return libraries_of_a_run; }

namespace {

FoundLibrary found_library(void* handle, const char* file, const char* version) {
  FoundLibrary out{file, {}, 0};
  if (handle == nullptr) return out;
  link_map* map = nullptr;
  out.path = ::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 ? map->l_name : file;
  if (const auto get = reinterpret_cast<std::size_t (*)()>(::dlsym(handle, version)))
    out.version = get();
  return out;
}

}  // namespace

FoundLibrary find_library(const NeededLibrary& library) {
  return found_library(load_library(library.file), library.file, library.version);
}

FoundLibrary loaded_library(const char* file, const char* version) {
  return found_library(::dlopen(file, RTLD_LAZY | RTLD_NOLOAD), file, version);
}

bool runs_on(const CudaBuild& build, const GpuFacts& gpu) {
  const int capability = 10 * gpu.major + gpu.minor;
  return std::any_of(build.built.begin(), build.built.end(),
                     [&](int one) { return one <= capability; });
}

void require_gpu(const CudaFacts& facts, const CudaBuild& build, int index) {
  const int major = build.version / 1000 * 1000;  // minor versions go together
  const std::string driver = fmt::format("an NVIDIA driver for CUDA {}", cuda_version_text(major));
  require(facts.driver != 0, [&] {
    return refused("there is no NVIDIA driver", driver, "no libcuda.so.1 that can be loaded",
                   {"apt install nvidia-driver, on a machine with an NVIDIA GPU"});
  });
  require(facts.driver >= major, [&] {
    return refused("the NVIDIA driver is too old", driver,
                   fmt::format("one for CUDA {}", cuda_version_text(facts.driver)),
                   {"apt install nvidia-driver, for a newer one"});
  });
  const auto count = static_cast<int>(facts.gpus.size());
  require(count > 0, [&] {
    return refused("there is no GPU that can be used", "at least one NVIDIA GPU",
                   facts.why.empty() ? "none" : facts.why, {"sluice doctor"});
  });
  require(index < count, [&] {
    return refused(fmt::format("there is no GPU {}", index),
                   count == 1 ? "cuda:0" : fmt::format("cuda:0 to cuda:{}", count - 1),
                   fmt::format("cuda:{}", index), {"plan.device = \"cuda:0\""});
  });
  const GpuFacts& gpu = facts.gpus[static_cast<std::size_t>(index)];
  require(!build.kernels || runs_on(build, gpu), [&] {
    std::vector<std::string> built;
    for (const int one : build.built) built.push_back(fmt::format("{}.{}", one / 10, one % 10));
    return refused(
        fmt::format("this program has no kernels for {}", gpu.name),
        fmt::format("compute capability {} or later", fmt::join(built, ", ")),
        fmt::format("{}.{}", gpu.major, gpu.minor),
        {fmt::format("a build with SLUICE_CUDA_ARCHITECTURES={}{}", gpu.major, gpu.minor)});
  });
}

void require_library(const NeededLibrary& library, const FoundLibrary& found) {
  const std::string install = fmt::format("pip install {}", library.package);
  require(!found.path.empty(), [&] {
    return refused(fmt::format("{} was not found: {} need it", library.file, library.what),
                   "the library in the system's search path, the CUDA toolkit or Python's nvidia/*",
                   "none", {install, "LD_LIBRARY_PATH=FOLDER, where it lies elsewhere"});
  });
  require(found.version >= library.least, [&] {
    return refused(
        fmt::format("{} is another version than this program needs", library.file),
        fmt::format("version {} or later", library.least),
        fmt::format("{} in {}",
                    found.version == 0 ? "one that does not say" : fmt::format("{}", found.version),
                    found.path),
        {install});
  });
}

ChosenDevice choose_device(const CudaFacts& facts, const CudaBuild& build,
                           std::span<const FoundLibrary> libraries) {
  if (facts.driver == 0) return {"cpu", {}};  // nothing of NVIDIA's is there
  try {
    require_gpu(facts, build, 0);
    require(build.kernels, [] {
      return Error(Exit::usage, {"this program was built without CUDA", {}, {}, {}, {}});
    });
    for (std::size_t i = 0; i < libraries.size(); ++i)
      require_library(needed_libraries()[i], libraries[i]);
  } catch (const Error& e) {
    return {"cpu", e.report().what};
  }
  return {"cuda:0", {}};
}

ChosenDevice choose_device() {
  const CudaFacts facts = cuda_facts();
  std::vector<FoundLibrary> found;
  if (!facts.gpus.empty() && cuda_build().kernels)
    for (const NeededLibrary& one : needed_libraries()) found.push_back(find_library(one));
  return choose_device(facts, cuda_build(), found);
}

}  // namespace sluice
