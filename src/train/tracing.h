// `--trace N`: when N steady steps have been recorded, RUN/trace.json is written, what the planner
// predicted of them below, and a line says what of the copies lay behind computation. One thread.
#pragma once

#include <filesystem>
#include <optional>

#include "executor/recorder.h"
#include "planner/description.h"
#include "train/metrics.h"

namespace sluice {

class Tracing {
 public:
  // All of them outlive it. Without a machine nothing is predicted, and the line says so.
  Tracing(const Recorder& recorder, const Backend& device, const ProgramSet& programs,
          const std::optional<Machine>& machine, std::filesystem::path path, MetricsLog& log)
      : recorder_(recorder),
        device_(device),
        programs_(programs),
        machine_(machine),
        path_(std::move(path)),
        log_(log) {}

  void enqueued(std::int64_t step);
  // A step was waited for; the `last` one before the run stops writes what there is.
  void ended(std::int64_t step, bool last);

 private:
  void write() const;
  Timeline predicted() const;

  const Recorder& recorder_;
  const Backend& device_;
  const ProgramSet& programs_;
  const std::optional<Machine>& machine_;
  std::filesystem::path path_;
  MetricsLog& log_;
  std::int64_t full_at_ = 0;  // the last step that is recorded
  bool written_ = false;
};

}  // namespace sluice
