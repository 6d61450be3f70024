#include "train/disk_use.h"

#include <algorithm>
#include <numeric>

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
  out.checkpoints = kept_checkpoints(config) + 1;
  const std::int64_t steps = length_of(config).steps;
  if (steps == 0) return out;
  const std::int64_t saves = saves_after(config, 0);
  out.checkpoints = std::min(out.checkpoints, saves);
  out.written = static_cast<double>(steps) * static_cast<double>(out.written_per_step) +
                static_cast<double>(saves) * static_cast<double>(out.checkpoint);
  return out;
}

std::int64_t kept_checkpoints(const Config& config) {
  const RunConfig& run = config.run;
  const std::int64_t steps = length_of(config).steps;
  return run.keep_last + (run.keep_every > 0 ? steps / run.keep_every : 0) +
         (run.keep_best ? 1 : 0);
}

std::int64_t saves_after(const Config& config, std::int64_t step) {
  const std::int64_t steps = length_of(config).steps, every = config.run.save_every;
  // Every validation may be the best so far.
  const std::int64_t validated = config.run.keep_best ? config.run.validate_every : 0;
  const auto times = [](std::int64_t last, std::int64_t period) {
    return period > 0 ? last / period : 0;
  };
  const auto saves_to = [&](std::int64_t last) {
    const std::int64_t both = every > 0 && validated > 0 ? std::lcm(every, validated) : 0;
    return times(last, every) + times(last, validated) - times(last, both);
  };
  if (step >= steps) return 0;
  const auto is_time = [&](std::int64_t period) { return period > 0 && steps % period == 0; };
  return saves_to(steps) - saves_to(step) + (is_time(every) || is_time(validated) ? 0 : 1);
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
  const std::int64_t more = std::max<std::int64_t>(0, kept_checkpoints(config) + 1 - run.there);
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
