// manifest.json: what makes a folder a checkpoint. It lists every file with its size and hash and
// carries what the run wants to remember (key, config, cursor, digest, …) as one JSON object. Its
// last line holds a hash of all the text before it, so that a flipped bit in the manifest is found
// like one in any other file. And the check of a folder against it.
//
// Free functions, no state; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace sluice {

struct ManifestFile {
  std::string name;  // a plain name, no folder
  std::int64_t size = 0;
  std::string hash;  // XXH3-128, 32 lower-case hex digits
};

struct Manifest {
  std::int64_t step = 0;
  std::vector<ManifestFile> files;
  nlohmann::json run;  // the run's own object
};

// The text of manifest.json, final newline included.
std::string manifest_text(const Manifest& manifest);
// Errors: Exit::input, naming `file`, for text that manifest_text() cannot have written.
Manifest parse_manifest(std::string_view text, const std::string& file);

enum class CheckDepth { sizes, hashes };

struct Verification {
  Manifest manifest;             // empty when it could not be read
  std::vector<Report> problems;  // one per bad file; none: the folder holds what was written
  bool ok() const { return problems.empty(); }
};

// Compares every file of the checkpoint folder `folder` with its manifest: there, of its size
// (expected and found bytes are named) and, at depth `hashes`, of its hash. A folder named
// step-00000010 must hold step 10. Files the manifest does not list are ignored. Never throws for
// what is in the folder. Cost: one read of every file, 1 MiB of memory.
Verification verify_checkpoint(const std::filesystem::path& folder,
                               CheckDepth depth = CheckDepth::hashes);

// "step-00000010" → 10; -1 for any other name ("step-10", "step-00000010.tmp", …).
std::int64_t step_of_folder(std::string_view name);
std::string folder_of_step(std::int64_t step);

}  // namespace sluice
