#include <algorithm>
#include <cmath>

#include "ops/loops.h"

namespace sluice::loops {

namespace {

// Logits of token t for the real vocabulary.
std::vector<double> logits_of(const HeadLoss& op, const Loop& loop, std::int64_t t) {
  const auto& x = loop.in(op.x);
  const auto& w = loop.in(op.w);
  const std::int64_t width = loop.features_of(op.x);
  std::vector<double> logits(static_cast<std::size_t>(op.vocab));
  for (std::int64_t v = 0; v < op.vocab; ++v) {
    double sum = 0;
    for (std::int64_t d = 0; d < width; ++d) sum += at(x, t * width + d) * at(w, v * width + d);
    at(logits, v) = op.scale * sum + (op.bias == no_value ? 0 : at(loop.in(op.bias), v));
  }
  return logits;
}

}  // namespace

// Chunks and padded rows have no place here: they change nothing.
void reference(const HeadLoss& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  const auto& w = loop.in(op.w);
  const std::int64_t width = loop.features_of(op.x);
  auto& stats = loop.accumulator(op.stats);
  for (Id id : {op.dx}) {
    if (id != no_value) loop.out(id);
  }
  for (Id id : {op.dw, op.dbias}) {
    if (id != no_value) loop.accumulator(id);
  }
  for (std::int64_t t = 0; t < loop.tokens_of(op.x); ++t) {
    const double weight = at(loop.in(op.weights), t);
    if (weight == 0) continue;
    const auto target = static_cast<std::int64_t>(at(loop.in(op.targets), t));
    require(target >= 0 && target < op.vocab, [&] {
      return Error(Exit::input, {"a target lies outside the vocabulary",
                                 {},
                                 fmt::format("0 to {}", op.vocab - 1),
                                 fmt::format("{}", target),
                                 {}});
    });
    const std::vector<double> logits = logits_of(op, loop, t);
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double logit : logits) sum += std::exp(logit - largest);
    const double log_sum = largest + std::log(sum);
    at(stats, 0) += weight * (log_sum - at(logits, target));
    at(stats, 1) += weight;
    if (op.dx == no_value) continue;
    for (std::int64_t v = 0; v < op.vocab; ++v) {
      const double dlogit = rounded(
          weight * (std::exp(at(logits, v) - log_sum) - (v == target ? 1 : 0)), loop.dtype(op.x));
      for (std::int64_t d = 0; d < width; ++d) {
        at(loop.update(op.dx), t * width + d) += op.scale * dlogit * at(w, v * width + d);
        if (op.dw != no_value)
          at(loop.update(op.dw), v * width + d) += op.scale * dlogit * at(x, t * width + d);
      }
      if (op.dbias != no_value) at(loop.update(op.dbias), v) += dlogit;
    }
  }
}

}  // namespace sluice::loops
