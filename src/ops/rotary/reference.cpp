#include <cmath>

#include "ops/loops.h"

namespace sluice::loops {

void reference(const Rotary& op, Loop& loop) {
  const auto& x = loop.in(op.x);
  auto& y = loop.out(op.y);
  y = x;
  const Shape& shape = loop.shape(op.x);
  const std::int64_t heads = shape.size(Axis::heads);
  const std::int64_t head = shape.size(Axis::head);
  for (std::int64_t t = 0; t < loop.tokens_of(op.x); ++t)
    for (std::int64_t n = 0; n < heads; ++n)
      for (std::int64_t i = 0; i < op.dims / 2; ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / op.dims;
        const double angle = at(loop.in(op.positions), t) *
                             std::pow(static_cast<double>(op.base), exponent) *
                             (op.inverse ? -1 : 1);
        const std::int64_t even = (t * heads + n) * head + 2 * i;
        at(y, even) = at(x, even) * std::cos(angle) - at(x, even + 1) * std::sin(angle);
        at(y, even + 1) = at(x, even) * std::sin(angle) + at(x, even + 1) * std::cos(angle);
      }
}

}  // namespace sluice::loops
