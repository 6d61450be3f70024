// Which libcudnn.so.9 of several is taken, and what is said when none can be.
//
// Once a function of one cuDNN was called, its parts stay in memory and would be taken for those of
// the next. So versions of candidates are read from names and headers beside them, and only the one
// that is taken is asked itself.
#pragma once

#include <filesystem>
#include <string>

#include "backend/cuda/library.h"

namespace sluice {

// The versions that were tested, as cudnnGetVersion() counts. Before 9.16 sequences that are no
// multiple of 128 tokens would need a copy to the device in each call.
inline constexpr std::size_t oldest_cudnn = 91900, too_new_cudnn = 100000;

// From libcudnn.so.9.14.0, what the file is really called, or include/cudnn_version.h beside its
// folder, where pip puts it; 0: neither says.
std::size_t cudnn_version_of(const std::filesystem::path& library);

// The first, in the system's search path and then library_places(), that is not of another version.
// Exit::usage, naming what was found and what installs one, when there is none.
Library load_cudnn(const std::string& file);
// What a loaded one says itself; Exit::usage when it is of another version.
std::size_t version_of(const Library& cudnn);

std::string text_of_cudnn(std::size_t version);  // "9.19.0"
std::string install_cudnn();                     // the command
inline constexpr const char* own_attention = "plan.attention = \"own\"";

}  // namespace sluice
