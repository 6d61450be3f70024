#include "train/tracing.h"

#include <cerrno>
#include <cstdio>
#include <memory>

#include "core/fault.h"
#include "planner/forecast.h"

namespace sluice {

void Tracing::enqueued(std::int64_t step) {
  if (full_at_ == 0 && recorder_.full()) full_at_ = step;
}

void Tracing::ended(std::int64_t step, bool last) {
  if (written_ || !(last || (full_at_ != 0 && step >= full_at_))) return;
  written_ = true;
  try {
    write();
  } catch (const Error& e) {  // a picture is not worth a run
    log_.say(e.text() + "sluice: there is no trace; training goes on");
  }
}

// Of the steps before the first one with another batch.
Timeline Tracing::predicted() const {
  const int program = recorder_.program_of(0);
  int steps = 1;
  while (steps < recorder_.claimed() && recorder_.program_of(steps) == program) ++steps;
  return predicted_timeline(programs_.programs[static_cast<std::size_t>(program)], *machine_,
                            steps);
}

void Tracing::write() const {
  if (recorder_.claimed() == 0)
    return log_.say(
        "sluice: no trace: there was no steady step to record (the first two steps are none, nor "
        "is "
        "the first after a validation, a sample or a save)");
  std::vector<Timeline> timelines{recorder_.timeline(programs_, device_)};
  if (machine_) timelines.push_back(predicted());
  std::FILE* const file = std::fopen(path_.c_str(), "wb");
  if (file == nullptr) throw disk_error("write", path_.string(), errno);
  bool good = true;
  write_trace(timelines, [&](std::string_view text) {
    good = good && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  });
  if (std::fclose(file) != 0 || !good) throw disk_error("write", path_.string(), errno);
  const Hidden hidden = hidden_copies(timelines.front());
  log_.say(fmt::format(
      "sluice: trace of {} steps in {} | copy time inside compute spans: {:.1f}% of {:.3f} ms a "
      "step",
      recorder_.claimed(), path_.string(), 100 * hidden.share(),
      1e3 * hidden.copying / recorder_.claimed()));
  if (!machine_)
    log_.say(
        "sluice: no predicted rows in the trace: this machine was not measured (run `sluice "
        "doctor`, or give --machine what `sluice doctor --save` wrote)");
}

}  // namespace sluice
