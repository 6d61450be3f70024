#include <cmath>

#include "ops/loops.h"

namespace sluice::loops {

void reference(const SquaredNorm& op, Loop& loop) {
  double sum = 0;
  for (double x : loop.in(op.x)) sum += x * x;
  at(loop.update(op.norms), op.index) = sum;
}

void reference(const FinishStep& op, Loop& loop) {
  const auto& stats = loop.in(op.stats);
  const auto& control = loop.in(op.control);
  const double weight = at(stats, 1);
  const double loss = at(stats, 0) / weight;
  double squares = 0;
  double bad = -1;
  const auto& norms = loop.in(op.norms);
  for (std::size_t i = 0; i < norms.size(); ++i) {
    squares += norms[i];
    if (bad < 0 && !std::isfinite(norms[i])) bad = static_cast<double>(i);
  }
  const double norm = std::sqrt(squares) / weight;
  const bool finite = std::isfinite(loss) && std::isfinite(norm);
  double clipped = 1;
  if (op.clip > 0 && norm > op.clip) clipped = op.clip / norm;

  auto& results = loop.update(op.results);
  const auto step = static_cast<std::int64_t>(at(control, Control::step));
  const std::int64_t row = step % 2 * Results::slots;
  at(results, row + Results::loss) = loss;
  at(results, row + Results::grad_norm) = norm;
  at(results, row + Results::weight) = weight;
  at(results, row + Results::finite) = finite ? 1 : 0;
  at(results, row + Results::step) = at(control, Control::step);
  at(results, row + Results::bad) = bad;

  auto& pending = loop.out(op.pending);
  at(pending, Pending::lr) = at(control, Control::lr);
  at(pending, Pending::step) = at(control, Control::step);
  at(pending, Pending::scale) = clipped / weight;
  at(pending, Pending::apply) = finite ? 1 : 0;
}

void reference(const AdamW& op, Loop& loop) {
  const auto& pending = loop.in(op.pending);
  if (at(pending, Pending::apply) == 0) return;
  const double t = at(pending, Pending::step);
  const double beta1 = op.beta1;
  const double beta2 = op.beta2;
  auto& w = loop.update(op.w);
  auto& m = loop.update(op.m);
  auto& v = loop.update(op.v);
  for (std::int64_t e = 0; e < loop.shape(op.w).count(); ++e) {
    const AdamWPart& part = op.part[op.parts == 1 ? 0 : e / op.parts_inner % op.parts];
    const double g = at(pending, Pending::scale) * at(loop.in(op.g), e);
    const double lr = at(pending, Pending::lr) * part.lr;
    at(m, e) = beta1 * at(m, e) + (1 - beta1) * g;
    at(v, e) = beta2 * at(v, e) + (1 - beta2) * g * g;
    const double m_hat = at(m, e) / (1 - std::pow(beta1, t));
    const double v_hat = at(v, e) / (1 - std::pow(beta2, t));
    at(w, e) -= lr * (m_hat / (std::sqrt(v_hat) + part.eps) + part.decay * at(w, e));
  }
}

}  // namespace sluice::loops
