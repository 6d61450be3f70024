#include "train/disk_use.h"

#include <algorithm>

#include "backend/disk/disk_space.h"
#include "checkpoint/state_files.h"
#include "planner/memory_report.h"

namespace sluice {

DiskUse disk_use(const Config& config, const ProgramSet& programs) {
  DiskUse out;
  out.scratch = programs.memory.disk_bytes();
  out.checkpoint = checkpoint_bytes(model_tensors(*programs.model, config.model));
  for (const Action& action : programs.named("steady").actions)
    if (action.phase == Phase::write) out.written_per_step += action.bytes;
  out.checkpoints = config.run.keep_last + 1;
  const std::int64_t steps = length_of(config).steps;
  if (steps == 0) return out;
  const std::int64_t saves = saves_after(config, 0);
  out.checkpoints = std::min(out.checkpoints, saves);
  out.written = static_cast<double>(steps) * static_cast<double>(out.written_per_step) +
                static_cast<double>(saves) * static_cast<double>(out.checkpoint);
  return out;
}

std::int64_t saves_after(const Config& config, std::int64_t step) {
  const std::int64_t steps = length_of(config).steps, every = config.run.save_every;
  if (step >= steps) return 0;
  if (every == 0) return 1;
  return steps / every - step / every + (steps % every == 0 ? 0 : 1);
}

namespace {

struct Need {
  std::string folder;
  std::int64_t scratch, checkpoints;  // bytes, count
};

std::int64_t bytes_of(const Need& need, const DiskUse& use) {
  return need.scratch + need.checkpoints * use.checkpoint;
}

Error too_little(const Need& need, const DiskUse& use, std::int64_t there, std::int64_t free) {
  Report report;
  std::string parts;
  if (need.scratch > 0) parts = fmt::format("{} of scratch", human_bytes(need.scratch));
  if (need.checkpoints > 0)
    parts += fmt::format("{}{} checkpoint{} of {}", parts.empty() ? "" : " and ", need.checkpoints,
                         need.checkpoints == 1 ? "" : "s", human_bytes(use.checkpoint));
  report.what = fmt::format("the disk has too little room for {}", parts);
  report.where = need.folder;
  report.expected = fmt::format("{} bytes free", bytes_of(need, use));
  report.found = fmt::format("{} bytes", free);
  // One checkpoint more is there while it is written.
  const std::int64_t fit = there + (free - need.scratch) / use.checkpoint - 1;
  if (free > need.scratch && fit >= 1 && need.checkpoints > 0)
    report.tries.push_back(fmt::format("run.keep_last = {}", fit));
  if (need.checkpoints > 1 && free - need.scratch >= use.checkpoint)
    report.tries.emplace_back("run.save_every = 0, to save at the end alone");
  if (need.scratch > 0) report.tries.emplace_back("plan.disk_path with a folder on another disk");
  if (need.checkpoints > 0 && report.tries.size() < 3)
    report.tries.emplace_back("--out with a folder on another disk");
  return Error(Exit::disk, std::move(report));
}

}  // namespace

void require_disk(const Config& config, const DiskUse& use, const std::string& scratch_folder,
                  const RunSoFar& run) {
  const std::int64_t more = std::max<std::int64_t>(0, config.run.keep_last + 1 - run.there);
  std::vector<Need> needs{{run.folder, 0, std::min(more, saves_after(config, run.step))}};
  if (same_disk(scratch_folder, run.folder))
    needs.front().scratch = use.scratch;
  else
    needs.push_back({scratch_folder, use.scratch, 0});
  for (const Need& need : needs) {
    const std::int64_t free = free_disk_bytes(need.folder);
    require(bytes_of(need, use) <= free, [&] { return too_little(need, use, run.there, free); });
  }
}

}  // namespace sluice
