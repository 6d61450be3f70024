#include <cmath>

#include "ops/loops.h"

namespace sluice::loops {

namespace {

// y, mean and rstd of the rows of x. `bias` may be absent.
void normalise(Loop& loop, const std::vector<double>& x, const LayerNorm& op) {
  const auto& gain = loop.in(op.gain);
  auto& y = loop.out(op.y);
  auto& mean = loop.out(op.mean);
  auto& rstd = loop.out(op.rstd);
  const std::int64_t width = loop.shape(op.y).last();
  for (std::int64_t t = 0; t < loop.shape(op.y).rows(); ++t) {
    double sum = 0;
    for (std::int64_t d = 0; d < width; ++d) sum += at(x, t * width + d);
    const double mu = sum / static_cast<double>(width);
    double squares = 0;
    for (std::int64_t d = 0; d < width; ++d) squares += std::pow(at(x, t * width + d) - mu, 2);
    const double r = 1 / std::sqrt(squares / static_cast<double>(width) + op.eps);
    for (std::int64_t d = 0; d < width; ++d) {
      const double bias = op.bias == no_value ? 0 : at(loop.in(op.bias), d);
      at(y, t * width + d) = (at(x, t * width + d) - mu) * r * at(gain, d) + bias;
    }
    at(mean, t) = mu;
    at(rstd, t) = r;
  }
}

}  // namespace

void reference(const LayerNorm& op, Loop& loop) { normalise(loop, loop.in(op.x), op); }

void reference(const ResidualNorm& op, Loop& loop) {
  reference(Add{.a = op.a, .b = op.b, .y = op.sum, .scale_b = op.scale_b}, loop);
  for (double& x : loop.update(op.sum)) x = rounded(x, loop.dtype(op.sum));  // as it is stored
  const LayerNorm norm{.x = op.sum,
                       .gain = op.gain,
                       .bias = op.bias,
                       .y = op.y,
                       .mean = op.mean,
                       .rstd = op.rstd,
                       .eps = op.eps};
  reference(norm, loop);
}

// With h = (x - mean) rstd and e = dy gain: dx = rstd (e - mean(e) - h mean(e h)).
void reference(const LayerNormGradInput& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  const auto& dy = loop.in(op.dy);
  const auto& gain = loop.in(op.gain);
  auto& dx = loop.out(op.dx);
  const std::int64_t width = loop.shape(op.x).last();
  for (std::int64_t t = 0; t < loop.shape(op.x).rows(); ++t) {
    const double mu = at(loop.in(op.mean), t);
    const double r = at(loop.in(op.rstd), t);
    double mean_e = 0;
    double mean_eh = 0;
    for (std::int64_t d = 0; d < width; ++d) {
      const double e = at(dy, t * width + d) * at(gain, d);
      const double h = (at(x, t * width + d) - mu) * r;
      mean_e += e / static_cast<double>(width);
      mean_eh += e * h / static_cast<double>(width);
    }
    for (std::int64_t d = 0; d < width; ++d) {
      const double e = at(dy, t * width + d) * at(gain, d);
      const double h = (at(x, t * width + d) - mu) * r;
      const double own = r * (e - mean_e - h * mean_eh);
      at(dx, t * width + d) = op.plus == no_value ? own
                                                  : at(loop.in(op.plus), t * width + d) +
                                                        rounded(own, loop.dtype(op.dx));
    }
  }
}

void reference(const LayerNormGradWeight& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  const auto& dy = loop.in(op.dy);
  const std::int64_t width = loop.shape(op.x).last();
  const std::int64_t rows = loop.shape(op.x).rows();
  if (op.dgain != no_value) loop.accumulator(op.dgain);
  for (std::int64_t t = 0; op.dgain != no_value && t < rows; ++t) {
    auto& dgain = loop.update(op.dgain);
    const double mu = at(loop.in(op.mean), t);
    const double r = at(loop.in(op.rstd), t);
    for (std::int64_t d = 0; d < width; ++d)
      at(dgain, d) += at(dy, t * width + d) * (at(x, t * width + d) - mu) * r;
  }
  if (op.dbias == no_value) return;
  auto& dbias = loop.accumulator(op.dbias);
  for (std::int64_t t = 0; t < rows; ++t)
    for (std::int64_t d = 0; d < width; ++d) at(dbias, d) += at(dy, t * width + d);
}

}  // namespace sluice::loops
