// What a run takes of disks: the scratch file for blobs that are at home there, and checkpoints.
#pragma once

#include <string>

#include "program/program.h"
#include "train/config.h"

namespace sluice {

// Bytes, but for the count.
struct DiskUse {
  std::int64_t scratch = 0;
  std::int64_t checkpoint = 0;        // one of them, a tokenizer apart
  std::int64_t checkpoints = 1;       // most at a time: keep_last and the one being written
  std::int64_t written_per_step = 0;  // to the scratch file
  std::int64_t written = 0;           // by the whole run, saves included; 0: run.tokens is not said

  std::int64_t total() const { return scratch + checkpoints * checkpoint; }
};
DiskUse disk_use(const Config& config, const ProgramSet& programs);

// Exit::disk, saying what would fit, unless the disks of both folders have the room; `there` of the
// run's checkpoints lie there already.
void require_disk(const DiskUse& use, const std::string& scratch_folder,
                  const std::string& run_folder, std::int64_t there);

}  // namespace sluice
