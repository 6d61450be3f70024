#include "train/tracing.h"

#include <cerrno>
#include <cstdio>
#include <memory>

#include "core/fault.h"

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

void Tracing::write() const {
  if (recorder_.claimed() == 0)
    return log_.say(
        "sluice: no trace: there was no steady step to record (the first two steps are none, nor "
        "is "
        "the first after a validation, a sample or a save)");
  const Timeline measured = recorder_.timeline(programs_);
  std::FILE* const file = std::fopen(path_.c_str(), "wb");
  if (file == nullptr) throw disk_error("write", path_.string(), errno);
  bool good = true;
  write_trace({&measured, 1}, [&](std::string_view text) {
    good = good && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  });
  if (std::fclose(file) != 0 || !good) throw disk_error("write", path_.string(), errno);
  const Hidden hidden = hidden_copies(measured);
  log_.say(fmt::format(
      "sluice: trace of {} steps in {} | copy time inside compute spans: {:.1f}% of {:.3f} ms a "
      "step",
      recorder_.claimed(), path_.string(), 100 * hidden.share(),
      1e3 * hidden.copying / recorder_.claimed()));
}

}  // namespace sluice
