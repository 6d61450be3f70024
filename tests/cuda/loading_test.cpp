// What a person reads when cuDNN is missing or another one: needs no GPU, only a build with CUDA.
#include <gtest/gtest.h>

#include "backend/cuda/cudnn_attention.h"
#include "backend/cuda/cudnn_library.h"
#include "core/error.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

std::string error_of(const std::string& file) {
  try {
    const CudnnAttention loaded(file);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.text();
  }
  return "no error";
}

TEST(CudnnLoading, a_missing_library_is_named_with_what_installs_it) {
  EXPECT_EQ(error_of("libcudnn-of-nobody.so.9"),
            "sluice: error: libcudnn-of-nobody.so.9 was not found\n"
            "  where: plan.attention\n"
            "  expected: the library in the system's search path, the CUDA toolkit or Python's "
            "nvidia/*\n"
            "  found: none\n"
            "  try: pip install nvidia-cudnn-cu13==9.19.*\n"
            "  try: LD_LIBRARY_PATH=FOLDER, where it lies elsewhere\n"
            "  try: plan.attention = \"own\"\n");
}

TEST(CudnnLoading, another_version_is_refused) {
  EXPECT_EQ(error_of(SLUICE_OLDER_CUDNN),
            "sluice: error: libcudnn.so.9 is another version than this program needs\n"
            "  where: plan.attention\n"
            "  expected: 9.19.0 or newer, before 10.0.0\n"
            "  found: 9.1.0\n"
            "  try: pip install nvidia-cudnn-cu13==9.19.*\n"
            "  try: plan.attention = \"own\"\n");
}

// Versions of candidates are read without calling them: from the file's real name, or from the
// header beside a package of Python's.
TEST(CudnnLoading, candidates_are_told_apart_before_they_are_called) {
  namespace fs = std::filesystem;
  const TestFolder folder;
  const fs::path system = folder.path() / "system", python = folder.path() / "cudnn";
  for (const fs::path& one : {system, python / "lib", python / "include"})
    fs::create_directories(one);
  fs::copy(SLUICE_OLDER_CUDNN, system / "libcudnn.so.9.14.0");
  fs::create_symlink("libcudnn.so.9.14.0", system / "libcudnn.so.9");
  fs::copy(SLUICE_OLDER_CUDNN, python / "lib/libcudnn.so.9");
  EXPECT_EQ(cudnn_version_of(system / "libcudnn.so.9"), 91400u);
  EXPECT_EQ(cudnn_version_of(python / "lib/libcudnn.so.9"), 0u);  // nothing says
  std::ofstream(python / "include/cudnn_version.h")
      << "#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 19\n#define CUDNN_PATCHLEVEL 1\n"
         "#define CUDNN_VERSION (CUDNN_MAJOR * 10000 + CUDNN_MINOR * 100 + CUDNN_PATCHLEVEL)\n";
  EXPECT_EQ(cudnn_version_of(python / "lib/libcudnn.so.9"), 91901u);
  const std::string path = (system / "libcudnn.so.9").string();
  EXPECT_NE(error_of(path).find("\n  found: 9.14.0 in " + path + "\n"), std::string::npos)
      << error_of(path);
}

TEST(CudnnLoading, a_library_that_is_none_is_refused) {
  const std::string said = error_of("libm.so.6");
  EXPECT_NE(said.find("libm.so.6 is another version than this program needs\n"
                      "  where: plan.attention\n"
                      "  expected: a library with cudnnGetVersion\n"
                      "  found: one without\n"
                      "  try: pip install nvidia-cudnn-cu13==9.19.*\n"
                      "  try: plan.attention = \"own\"\n"),
            std::string::npos)
      << said;
}

}  // namespace
}  // namespace sluice
