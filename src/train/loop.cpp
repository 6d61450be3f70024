#include "train/loop.h"

#include <chrono>

#include "train/diverged.h"
#include "train/planted.h"
#include "train/sampler.h"
#include "train/tracing.h"
#include "train/validator.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

bool due(std::int64_t every, std::int64_t step) { return every > 0 && step % every == 0; }

class Loop {
 public:
  explicit Loop(const LoopParts& parts)
      : p_(parts),
        run_(parts.config.run),
        length_(length_of(parts.config)),
        reported_(parts.files.step()) {}

  Exit run() {
    const std::int64_t begin = p_.files.step();
    for (std::int64_t step = begin + 1; step <= length_.steps; ++step) {
      p_.faults.hit("train.step");
      p_.trainer.enqueue(step);  // batch and step
      if (step - 1 > begin) report(step - 1);
      if (p_.tracing != nullptr) p_.tracing->enqueued(step);
      const bool stop = p_.stop_signal != nullptr && p_.stop_signal->load() != 0;
      const bool last = step == length_.steps || stop;
      const bool planted = plants_at(p_.faults, step);
      if (!last && !planted && !due(run_.validate_every, step) && !due(run_.save_every, step) &&
          !due(run_.sample_every, step) && !due(run_.norms_every, step))
        continue;
      settle(step);
      if (p_.tracing != nullptr) p_.tracing->ended(step, last);
      if (planted) p_.trainer.derive();
      const std::uint64_t digest = p_.trainer.digest();
      RunFiles::Findings found{.digest = digest, .validation = {}};
      if (p_.validator != nullptr && (due(run_.validate_every, step) || step == length_.steps)) {
        const bool whole = step == length_.steps;
        const Evaluation loss = p_.validator->run(whole);
        p_.log.validation(step, loss, digest);
        // The last one, over all tokens, has no like before it.
        if (!whole || run_.validate_tokens == 0) found.validation = loss;
        found.best = run_.keep_best && found.validation && p_.files.is_best(loss);
      }
      if (due(run_.norms_every, step))
        p_.log.norms(step, layer_norms(p_.trainer, p_.trainer.result(step).weight));
      if (p_.sampler != nullptr && (due(run_.sample_every, step) || step == length_.steps))
        p_.sampler->run(step, p_.log);
      if (due(run_.save_every, step) || last || found.best) save(step, found);
      if (stop && step < length_.steps) return Exit::requeue;
      mark_ = Clock::now();
    }
    return Exit::ok;
  }

 private:
  // Weights are those after `step`, and every step's row is written.
  void settle(std::int64_t step) {
    report(step);
    p_.log.refresh();
    p_.trainer.settle();
  }

  void report(std::int64_t step) {
    if (step <= reported_) return;
    reported_ = step;
    const StepResult result = p_.trainer.result(step);
    const double seconds = std::chrono::duration<double>(result.ended - mark_).count();
    mark_ = result.ended;
    Pace pace;
    pace.tokens = length_.tokens_after(step);
    pace.tokens_per_second = static_cast<double>(length_.tokens_of(step)) / seconds;
    pace.seconds_left =
        static_cast<double>(length_.tokens() - pace.tokens) / pace.tokens_per_second;
    p_.log.step(result, pace);
    if (p_.tracing != nullptr) p_.tracing->ended(step, false);
    if (!result.finite) throw diverged(p_.trainer, result, p_.files.folder().string());
  }

  void save(std::int64_t step, const RunFiles::Findings& found) {
    try {
      p_.files.save(p_.trainer, p_.config, p_.key, step, found, p_.tokenizer_path);
      p_.log.saved(step, found.digest, found.best);
    } catch (const Error& e) {
      if (e.code() != Exit::disk) throw;
      // The last good checkpoint stays.
      p_.log.say(e.text() + "sluice: this step was not saved; training goes on");
    }
  }

  const LoopParts& p_;
  const RunConfig& run_;
  const RunLength length_;
  std::int64_t reported_;
  Clock::time_point mark_ = Clock::now();
};

}  // namespace

Exit training_loop(const LoopParts& parts) {
  try {
    return Loop(parts).run();
  } catch (const DeviceError& e) {
    throw device_failed(parts.trainer, e, parts.files.folder().string());
  }
}

}  // namespace sluice
