#include "backend/cuda/cudnn_library.h"

#include <dlfcn.h>
#include <fmt/ranges.h>
#include <link.h>

#include <charconv>
#include <fstream>

#include "core/error.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* package = "nvidia-cudnn-cu13==9.19.*";

std::size_t version(int major, int minor, int patch) {
  return static_cast<std::size_t>(major * 10000 + minor * 100 + patch);
}

bool usable(std::size_t version) { return version >= oldest_cudnn && version < too_new_cudnn; }

// "NAME.so.9.14.0"
std::size_t version_in_name(const std::string& name) {
  int numbers[3] = {};
  const std::size_t so = name.find(".so.");
  if (so == std::string::npos) return 0;
  const char *at = name.data() + so + 4, *const end = name.data() + name.size();
  for (int& number : numbers) {
    const auto read = std::from_chars(at, end, number);
    if (read.ec != std::errc()) return 0;
    at = read.ptr == end ? end : read.ptr + 1;
  }
  return version(numbers[0], numbers[1], numbers[2]);
}

// "#define CUDNN_MAJOR 9" and so on
std::size_t version_in_header(const fs::path& header) {
  int numbers[3] = {-1, 0, 0};
  std::ifstream in(header);
  for (std::string define, name; in >> define;) {
    if (define != "#define" || !(in >> name)) continue;
    static constexpr const char* names[] = {"CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL"};
    for (int i = 0; i < 3; ++i)
      if (name == names[i]) in >> numbers[i];
  }
  return numbers[0] < 0 ? 0 : version(numbers[0], numbers[1], numbers[2]);
}

// Where the system finds `file`; empty: it does not.
std::string found_at(const std::string& file) {
  void* const handle = ::dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) return {};
  link_map* map = nullptr;
  const bool known = ::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr;
  std::string out = known ? map->l_name : file;
  (void)::dlclose(handle);
  return out;
}

Error other_version(const std::string& found) {
  return {Exit::usage,
          {"libcudnn.so.9 is another version than this program needs",
           "plan.attention",
           fmt::format("{} or newer, before {}", text_of_cudnn(oldest_cudnn),
                       text_of_cudnn(too_new_cudnn)),
           found,
           {install_cudnn(), own_attention}}};
}

}  // namespace

std::string text_of_cudnn(std::size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::string install_cudnn() { return fmt::format("pip install {}", package); }

std::size_t cudnn_version_of(const fs::path& library) {
  std::error_code ignored;
  const fs::path real = fs::canonical(library, ignored);
  if (const std::size_t said = version_in_name(real.filename().string())) return said;
  return version_in_header(real.parent_path().parent_path() / "include/cudnn_version.h");
}

Library load_cudnn(const std::string& file) {
  std::vector<std::string> places = library_places(file), others;
  places.insert(places.begin(), file);
  for (const std::string& place : places) {
    const std::string path = found_at(place);
    if (path.empty()) continue;
    const std::size_t said = cudnn_version_of(path);
    if (said == 0 || usable(said)) return {path, package};
    others.push_back(fmt::format("{} in {}", text_of_cudnn(said), path));
  }
  if (!others.empty()) throw other_version(fmt::format("{}", fmt::join(others, "\n         ")));
  try {
    return {file, package};
  } catch (Error& e) {
    e.report().where = "plan.attention", e.report().tries.emplace_back(own_attention);
    throw;
  }
}

std::size_t version_of(const Library& cudnn) {
  std::size_t (*get)() = nullptr;
  try {
    cudnn.find(get, "cudnnGetVersion");
  } catch (Error& e) {
    e.report().where = "plan.attention", e.report().tries = {install_cudnn(), own_attention};
    throw;
  }
  const std::size_t version = get();
  if (!usable(version)) throw other_version(text_of_cudnn(version));
  return version;
}

}  // namespace sluice
