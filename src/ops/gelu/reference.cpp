#include <cmath>
#include <numbers>

#include "ops/loops.h"

namespace sluice::loops {

namespace {

const double root_2_over_pi = std::sqrt(2 / std::numbers::pi);
constexpr double cubic = 0.044715;

double gelu(double x, GeluForm form) {
  if (form == GeluForm::exact) return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
  return 0.5 * x * (1 + std::tanh(root_2_over_pi * (x + cubic * x * x * x)));
}

double gelu_slope(double x, GeluForm form) {
  if (form == GeluForm::exact) {
    const double normal_density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) + x * normal_density;
  }
  const double tanh = std::tanh(root_2_over_pi * (x + cubic * x * x * x));
  const double inner_slope = root_2_over_pi * (1 + 3 * cubic * x * x);
  return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * inner_slope;
}

}  // namespace

void reference(const Gelu& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  auto& y = loop.out(op.y);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = gelu(x[i], op.form);
}

void reference(const GeluGrad& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  const std::vector<double> dy = loop.in(op.dy);  // dx may be the same value
  auto& dx = loop.out(op.dx);
  for (std::size_t i = 0; i < dx.size(); ++i) dx[i] = dy[i] * gelu_slope(x[i], op.form);
}

}  // namespace sluice::loops
