// From what a person names to what is read: files, folders of them, archives, packed or not.
#pragma once

#include <string>
#include <vector>

#include "data/unpack.h"

namespace sluice {

struct InputSource {
  enum class Kind : std::uint8_t {
    text,   // one document
    lines,  // a JSON object in each line, one document each
    tar,    // each .txt inside is a document
  };
  FileRange range;
  Kind kind = Kind::text;
  Packing packing = Packing::none;
  std::int64_t bytes() const { return range.end - range.begin; }
};

// In the order given; the files of a folder, and of the folders in it, by their path. What a file
// is its name says (.txt, .jsonl, .ndjson, .json, .tar, each packed as .gz, .zst or .xz), or the
// first bytes of a packed one that has no other ending. A .tar that holds packed or .jsonl files
// stands for those. Errors: Exit::input for what cannot be read, what is of no such kind, and a
// folder without any.
std::vector<InputSource> find_inputs(const std::vector<std::string>& paths);

}  // namespace sluice
