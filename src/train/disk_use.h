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
  std::int64_t checkpoints = 1;       // most at a time: those kept and the one being written
  std::int64_t written_per_step = 0;  // to the scratch file
  double written = 0;  // by the whole run, saves included: exceeds 2^63; 0: run.tokens is not said

  std::int64_t total() const { return scratch + checkpoints * checkpoint; }
};
DiskUse disk_use(const Config& config, const ProgramSet& programs);

// How many checkpoints stay when the run has ended.
std::int64_t kept_checkpoints(const Config& config);
// How many checkpoints a run saves that goes on from a step to its end, at
// most.
std::int64_t saves_after(const Config& config, std::int64_t step);

// The run as it is found.
struct RunSoFar {
  std::string folder;
  std::int64_t step = 0;   // from which it goes on
  std::int64_t there = 0;  // checkpoints that lie there already
};
// Exit::disk, saying what would fit, unless the disks of both folders have the room for as many
// checkpoints as there will be at a time.
void require_disk(const Config& config, const DiskUse& use, const std::string& scratch_folder,
                  const RunSoFar& run);

}  // namespace sluice
