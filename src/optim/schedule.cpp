#include <algorithm>
#include <cmath>
#include <numbers>

#include "optim/optim.h"

namespace sluice {

void describe(OptionTable& table, OptimConfig& c) {
  const Effect numerics = Effect::numerics;
  table.add("optim.lr", &c.lr, numerics, "peak learning rate");
  table.add("optim.lr_end", &c.lr_end, numerics, "learning rate at the end of the run");
  table.add("optim.lr_schedule", &c.lr_schedule, numerics, "shape of the decay").choices = {
      "cosine", "linear", "constant"};
  table.add("optim.warmup_tokens", &c.warmup_tokens, numerics, "tokens of linear warm-up from 0");
  table.add("optim.weight_decay", &c.weight_decay, numerics,
            "decoupled decay of matrices and embeddings");
  table.add("optim.clip", &c.clip, numerics, "largest global gradient norm; 0: no clipping");
  table.add("optim.beta1", &c.beta1, numerics, "decay of the first moment");
  table.add("optim.beta2", &c.beta2, numerics, "decay of the second moment");
  table.add("optim.eps", &c.eps, numerics, "AdamW's epsilon");
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
  require_range(c.warmup_tokens >= 0, "optim.warmup_tokens", "0 or more",
                static_cast<double>(c.warmup_tokens));
  require_range(c.weight_decay >= 0, "optim.weight_decay", "0 or more", c.weight_decay);
  require_range(c.clip >= 0, "optim.clip", "0 or more", c.clip);
  require_range(c.beta1 >= 0 && c.beta1 < 1, "optim.beta1", "0 <= beta1 < 1", c.beta1);
  require_range(c.beta2 >= 0 && c.beta2 < 1, "optim.beta2", "0 <= beta2 < 1", c.beta2);
  require_range(c.eps > 0, "optim.eps", "more than 0", c.eps);
}

double learning_rate(const OptimConfig& c, RunLength run, std::int64_t step) {
  const std::int64_t warmup = (c.warmup_tokens + run.tokens_per_step - 1) / run.tokens_per_step;
  if (step < warmup) return c.lr * static_cast<double>(step) / static_cast<double>(warmup);
  if (c.lr_schedule == "constant") return c.lr;
  const auto rest = static_cast<double>(std::max<std::int64_t>(1, run.steps - warmup));
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / rest);
  const double share =
      c.lr_schedule == "linear" ? 1 - progress : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return c.lr_end + (c.lr - c.lr_end) * share;
}

}  // namespace sluice
