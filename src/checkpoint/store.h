// The checkpoints of one run: RUN/checkpoints/step-00000010/, each a folder with a manifest.
//
// A save is written into step-N.tmp, every file and the folder synced, then renamed to step-N and
// the parent synced; only then are older ones removed. So at any instant, after a kill or a power
// cut, each folder named step-N is complete, and what a dead save left behind ends in .tmp or
// begins with .trash- and is removed when the store is next opened. A disk that is full or fails
// during a save ends that save with Error(Exit::disk); its temporary folder is removed and nothing
// else has changed, so training may go on.
//
// One process at a time (RunLock), one thread; newest_verified() may run in any process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/safetensors.h"

namespace sluice {

// Keeps other processes from training in the same run directory until it is destroyed or the
// process dies: flock on RUN/.lock. Throws Error(Exit::usage) when another holds it.
class RunLock {
 public:
  explicit RunLock(const std::filesystem::path& run_dir);  // makes run_dir when it is missing
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
};

struct Checkpoint {
  std::int64_t step = 0;
  std::filesystem::path path;
  nlohmann::json run;  // the object given to Save::commit
};

struct NewestVerified {
  std::optional<Checkpoint> checkpoint;        // none: no step verifies
  std::vector<Report> skipped;                 // the first problem of each newer one
  std::vector<std::filesystem::path> damaged;  // their folders, newest first, as many as skipped
};

// Steps of a run that have a checkpoint: ascending, not verified.
std::vector<std::int64_t> checkpoint_steps(const std::filesystem::path& run_dir);
// Tries the steps of a run, newest first. Reads only.
NewestVerified newest_verified(const std::filesystem::path& run_dir,
                               CheckDepth depth = CheckDepth::hashes);
// One given step folder; throws Error(Exit::input) with its first problem.
Checkpoint open_checkpoint(const std::filesystem::path& folder,
                           CheckDepth depth = CheckDepth::hashes);

class CheckpointStore;

// One save in progress. Destroyed before commit() it removes what it wrote.
class CheckpointSave {
 public:
  ~CheckpointSave();
  CheckpointSave(const CheckpointSave&) = delete;
  CheckpointSave& operator=(const CheckpointSave&) = delete;

  // A file of `text`, whole.
  void add_file(std::string_view name, std::string_view text);
  // A safetensors file: write to what is returned, then hand it to close(). One at a time.
  SafetensorsWriter& open_safetensors(std::string_view name, std::vector<TensorInfo> infos,
                                      const std::map<std::string, std::string>& metadata);
  void close_safetensors();
  // Makes the checkpoint real. Returns notes about older ones that could not be removed: the new
  // one is safe all the same. REQUIRES: called once, after close_safetensors().
  std::vector<std::string> commit(const nlohmann::json& run);

  std::int64_t step() const { return manifest_.step; }
  std::int64_t bytes() const;  // of the files closed so far

 private:
  friend class CheckpointStore;
  CheckpointSave(CheckpointStore& store, std::int64_t step);
  void publish();

  CheckpointStore& store_;
  std::filesystem::path temporary_;
  Manifest manifest_;
  std::unique_ptr<SafetensorsWriter> writer_;
  std::string writer_name_;
  bool committed_ = false;
};

class CheckpointStore {
 public:
  // Makes RUN/checkpoints and removes what dead saves left there. REQUIRES: keep_last >= 1, the
  // caller holds the run's lock. `faults` outlives the store.
  CheckpointStore(const std::filesystem::path& run_dir, int keep_last, Faults& faults);

  // Starts a save of `step`; an existing checkpoint of that step stays until commit() swaps them.
  // The store outlives the save.
  CheckpointSave begin(std::int64_t step);
  // Renames a damaged or unwanted step-N to step-N.bad (or .bad-2, …), out of the way of resume
  // and retention. Returns the new path.
  std::filesystem::path set_aside(const std::filesystem::path& folder);

  // Steps that stay besides the keep_last newest ones, from now on. Default: none.
  void keep_also(std::function<bool(std::int64_t step)> keeps) { keeps_ = std::move(keeps); }
  // Keeps the keep_last newest steps, those of keep_also() and `keep_always`, which is known to be
  // good. A save does so; a kill between the two leaves one too many. Returns notes about what
  // could not be removed.
  std::vector<std::string> remove_old(std::int64_t keep_always);

  const std::filesystem::path& folder() const { return folder_; }
  std::vector<std::int64_t> steps() const;  // ascending, not verified

 private:
  friend class CheckpointSave;
  void remove_folder(const std::filesystem::path& folder);

  std::filesystem::path folder_;
  int keep_last_;
  std::function<bool(std::int64_t)> keeps_;
  Faults& faults_;
};

}  // namespace sluice
