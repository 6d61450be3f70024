#include <algorithm>
#include <cmath>
#include <numbers>

#include "optim/optim.h"

namespace sluice {
namespace {

constexpr std::int64_t most_length = std::int64_t{1} << 52;

// The parts of a run that a schedule tells apart, in tokens: warm-up up to `warm`, the decay from
// `begin` to `end`.
struct Spans {
  std::int64_t warm, begin, end;
};

Spans spans_of(const OptimConfig& c, const RunLength& run) {
  Spans out{};
  out.warm = c.warmup_steps > 0 ? run.tokens_after(c.warmup_steps) : c.warmup_tokens;
  out.begin = out.warm;
  out.end = run.tokens();
  if (c.lr_schedule == "wsd") {
    const std::int64_t stable = run.steps - std::min(c.decay_steps, run.steps);
    out.begin = c.decay_steps > 0 ? run.tokens_after(stable) : out.end - c.decay_tokens;
  } else if (c.decay_steps > 0) {
    out.end = run.tokens_after(run.steps_for(out.warm) + c.decay_steps);
  } else if (c.decay_tokens > 0) {
    out.end = out.warm + c.decay_tokens;
  }
  return out;
}

double ratio(std::int64_t part, std::int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

// What is left of the way down, `x` from 0 to 1 being how far the decay has come.
double share_left(const std::string& shape, double x) {
  if (shape == "linear") return 1 - x;
  if (shape == "sqrt") return 1 - std::sqrt(x);
  return 0.5 * (1 + std::cos(std::numbers::pi * x));
}

void require_one_unit(std::int64_t tokens, std::int64_t steps, const char* name, const char* what) {
  require(tokens == 0 || steps == 0, [&] {
    return Error(Exit::usage, {fmt::format("the {} has two lengths", name),
                               fmt::format("optim.{}_steps", what),
                               fmt::format("optim.{0}_tokens or optim.{0}_steps", what),
                               fmt::format("{} tokens and {} steps", tokens, steps),
                               {fmt::format("optim.{}_tokens = 0", what),
                                fmt::format("optim.{}_steps = 0", what)}});
  });
}

}  // namespace

void describe(OptionTable& table, OptimConfig& c) {
  const Effect numerics = Effect::numerics;
  table.add("optim.lr", &c.lr, numerics, "peak learning rate");
  table.add("optim.lr_end", &c.lr_end, numerics, "learning rate at the end of the decay");
  table.add("optim.lr_schedule", &c.lr_schedule, numerics, "shape of the decay").choices = {
      "cosine", "linear", "constant", "wsd"};
  table.add("optim.warmup_tokens", &c.warmup_tokens, numerics, "tokens of linear warm-up from 0");
  table.add("optim.warmup_steps", &c.warmup_steps, numerics, "the same, in steps");
  table
      .add("optim.decay_tokens", &c.decay_tokens, numerics,
           "tokens of the decay (auto: all after the warm-up; wsd needs a number)")
      .allows_auto = true;
  table.add("optim.decay_steps", &c.decay_steps, numerics, "the same, in steps").allows_auto = true;
  table.add("optim.decay_shape", &c.decay_shape, numerics, "of wsd's decay").choices = {
      "linear", "sqrt", "cosine"};
  table.add("optim.weight_decay", &c.weight_decay, numerics,
            "decoupled decay of matrices and embeddings");
  table.add("optim.clip", &c.clip, numerics, "largest global gradient norm; 0: no clipping");
  table.add("optim.beta1", &c.beta1, numerics, "decay of the first moment");
  table.add("optim.beta2", &c.beta2, numerics, "decay of the second moment");
  table.add("optim.eps", &c.eps, numerics, "AdamW's epsilon");
  table.add("optim.ema", &c.ema, numerics, "decay of an average of the weights; 0: none is kept");
  table.add("optim.freeze", &c.freeze, numerics,
            "names of tensors that never change, * for any text, separated by commas");
  table.add("optim.skip_spikes", &c.skip_spikes, numerics,
            "a step is not applied when its loss or gradient norm lies so many standard deviations "
            "above those of the last 128 steps; 0: every step is");
}

void check(const OptimConfig& c) {
  const auto require_range = [](bool ok, const char* key, const char* expected, double found) {
    require(ok, [&] {
      return Error(
          Exit::usage,
          {fmt::format("{} is out of range", key), key, expected, fmt::format("{}", found), {}});
    });
  };
  require_range(c.lr >= 0, "optim.lr", "0 or more", c.lr);
  require_range(c.lr_end >= 0, "optim.lr_end", "0 or more", c.lr_end);
  for (const auto& [key, length] : {std::pair{"optim.warmup_tokens", c.warmup_tokens},
                                    {"optim.warmup_steps", c.warmup_steps},
                                    {"optim.decay_tokens", c.decay_tokens},
                                    {"optim.decay_steps", c.decay_steps}})
    require_range(length >= 0 && length <= most_length, key, "an integer from 0 to 2^52",
                  static_cast<double>(length));
  require_one_unit(c.warmup_tokens, c.warmup_steps, "warm-up", "warmup");
  require_one_unit(c.decay_tokens, c.decay_steps, "decay", "decay");
  require(c.lr_schedule != "wsd" || c.decay_tokens > 0 || c.decay_steps > 0, [] {
    return Error(Exit::usage, {"wsd does not know when its decay begins",
                               "optim.lr_schedule",
                               "with wsd, the length of the decay",
                               "wsd, and neither optim.decay_tokens nor optim.decay_steps",
                               {"optim.decay_tokens = a fifth of run.tokens"}});
  });
  require_range(c.weight_decay >= 0, "optim.weight_decay", "0 or more", c.weight_decay);
  require_range(c.clip >= 0, "optim.clip", "0 or more", c.clip);
  require_range(c.skip_spikes >= 0, "optim.skip_spikes", "0 or more", c.skip_spikes);
  require_range(c.beta1 >= 0 && c.beta1 < 1, "optim.beta1", "0 <= beta1 < 1", c.beta1);
  require_range(c.beta2 >= 0 && c.beta2 < 1, "optim.beta2", "0 <= beta2 < 1", c.beta2);
  require_range(c.eps > 0, "optim.eps", "more than 0", c.eps);
  require_range(c.ema >= 0 && c.ema < 1, "optim.ema", "0 <= ema < 1", c.ema);
}

void check(const OptimConfig& c, const RunLength& run) {
  for (const auto& [key, steps] :
       {std::pair{"optim.warmup_steps", c.warmup_steps}, {"optim.decay_steps", c.decay_steps}})
    for (const RunLength::Stretch& stretch : run.stretches)
      require(steps <= most_length / stretch.tokens_per_step, [&] {
        return Error(Exit::usage,
                     {fmt::format("{} is out of range", key),
                      key,
                      fmt::format("an integer from 0 to {}", most_length / stretch.tokens_per_step),
                      fmt::format("{}", steps),
                      {}});
      });
  if (run.steps == 0 || c.lr_schedule != "wsd") return;
  const Spans spans = spans_of(c, run);
  require(spans.warm <= spans.begin && c.decay_steps <= run.steps, [&] {
    const bool steps = c.decay_steps > 0;
    return Error(Exit::usage,
                 {"the warm-up and the decay are longer than the run",
                  steps ? "optim.decay_steps" : "optim.decay_tokens",
                  fmt::format("at most {} tokens together", spans.end),
                  fmt::format("{} tokens and {} {}", spans.warm,
                              steps ? c.decay_steps : c.decay_tokens, steps ? "steps" : "tokens"),
                  {}});
  });
}

double learning_rate(const OptimConfig& c, const RunLength& run, std::int64_t step) {
  const Spans spans = spans_of(c, run);
  const std::int64_t done = run.tokens_after(step);
  if (done < spans.warm) return c.lr * ratio(done, spans.warm);
  if (c.lr_schedule == "constant" || done <= spans.begin) return c.lr;
  if (done >= spans.end) return c.lr_end;
  const std::string& shape = c.lr_schedule == "wsd" ? c.decay_shape : c.lr_schedule;
  const double x = ratio(done - spans.begin, spans.end - spans.begin);
  return c.lr_end + (c.lr - c.lr_end) * share_left(shape, x);
}

}  // namespace sluice
