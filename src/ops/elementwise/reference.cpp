#include "ops/loops.h"

namespace sluice::loops {

void reference(const Add& op, Loop& loop) {
  const auto& a = loop.in(op.a);
  const auto& b = loop.in(op.b);
  auto& y = loop.out(op.y);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = a[i] + op.scale_b * b[i];
}

void reference(const Scale& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  auto& y = loop.out(op.y);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = op.factor * x[i];
}

void reference(const Cast& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  auto& y = loop.out(op.y);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = rounded(x[i], loop.dtype(op.y));
}

void reference(const AddInto& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  auto& y = loop.update(op.y);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += x[i];
}

}  // namespace sluice::loops
