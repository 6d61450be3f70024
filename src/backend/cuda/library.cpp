#include "backend/cuda/library.h"

#include <dlfcn.h>
#include <glob.h>

#include "core/error.h"

namespace sluice {

std::vector<std::string> library_places(const std::string& file) {
  static constexpr const char* folders[] = {
      "/usr/local/cuda/lib64",
      "build/cuda/nvidia/*/lib",
      "build/venv/lib/python3*/site-packages/nvidia/*/lib",
      "/usr/lib/python3*/site-packages/nvidia/*/lib",
      "/usr/local/lib/python3*/*-packages/nvidia/*/lib",
      "/opt/*/lib/python3*/site-packages/nvidia/*/lib",
      "/opt/*/.venv/lib/python3*/site-packages/nvidia/*/lib",
  };
  std::vector<std::string> out;
  for (const char* folder : folders) {
    glob_t found{};
    if (::glob((std::string(folder) + "/" + file).c_str(), 0, nullptr, &found) == 0)
      for (std::size_t i = 0; i < found.gl_pathc; ++i) out.emplace_back(found.gl_pathv[i]);
    ::globfree(&found);
  }
  return out;
}

void* load_library(const std::string& file) {
  if (void* const found = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return found;
  for (const std::string& place : library_places(file))
    if (void* const found = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL)) return found;
  return nullptr;
}

Library::Library(const std::string& file, const std::string& package)
    : file_(file), handle_(load_library(file)) {
  require(handle_ != nullptr, [&] {
    return Error(Exit::usage,
                 {fmt::format("{} was not found", file),
                  "plan.device",
                  "the library in the system's search path, the CUDA toolkit or Python's nvidia/*",
                  "none",
                  {fmt::format("pip install {}", package),
                   "LD_LIBRARY_PATH=FOLDER, where it lies elsewhere"}});
  });
}

Library::~Library() {
  if (handle_ != nullptr) (void)::dlclose(handle_);
}

void* Library::address(const char* name) const {
  void* const found = ::dlsym(handle_, name);
  require(found != nullptr, [&] {
    return Error(Exit::usage, {fmt::format("{} is another version than this program needs", file_),
                               "plan.device",
                               fmt::format("a library with {}", name),
                               "one without",
                               {}});
  });
  return found;
}

}  // namespace sluice
