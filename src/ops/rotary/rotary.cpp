#include "ops/rotary/rotary.h"

#include "ops/rules.h"

namespace sluice::rules {

void check(const Rotary& op, Types types) {
  const Operands operands(op.name, types);
  const Shape shape = operands.heads("x", {op.x});
  operands.expect("y", op.y, shape, operands.dtype("x", op.x));
  operands.expect("positions", op.positions, token_axes(shape), DType::i32);
  operands.expect_that(op.dims >= 0 && op.dims % 2 == 0 && op.dims <= shape.last(),
                       fmt::format("an even number of turned numbers, at most {}", shape.last()),
                       fmt::format("{}", op.dims));
}

// Sines and cosines are shared by the heads of a token and not counted.
Cost cost(const Rotary& op, Types types) {
  const Shape& shape = shape_of(types, op.x);
  return cost_of(op, types, 3.0 * static_cast<double>(shape.rows()) * op.dims);
}

void gradient(const Rotary& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value || !builder.wants(op.x)) return;
  const Id dx = builder.contribution({op.x}).id;
  Rotary back = op;
  back.x = dy;
  back.y = dx;
  back.inverse = !op.inverse;
  builder.emit_input(back);
  builder.add(op.x, dx);
}

}  // namespace sluice::rules
