#include "ops/gelu/gelu.h"

#include "ops/rules.h"

namespace sluice::rules {

void check(const Gelu& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& shape = operands.at("x", op.x).shape;
  operands.expect("y", op.y, shape, operands.floating("x", op.x));
}

void check(const GeluGrad& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& shape = operands.at("x", op.x).shape;
  const DType type = operands.floating("x", op.x);
  operands.expect("dy", op.dy, shape, type);
  operands.expect("dx", op.dx, shape, type);
}

// The transcendental is counted as ten operations: the op is bound by memory anyway.
Cost cost(const Gelu& op, Types types) {
  return cost_of(op, types, 18.0 * static_cast<double>(shape_of(types, op.x).count()));
}

Cost cost(const GeluGrad& op, Types types) {
  return cost_of(op, types, 26.0 * static_cast<double>(shape_of(types, op.x).count()));
}

void gradient(const Gelu& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value || !builder.wants(op.x)) return;
  const Id dx = builder.contribution({op.x}).id;
  builder.emit_input(GeluGrad{.x = op.x, .dy = dy, .dx = dx, .form = op.form});
  builder.add(op.x, dx);
}

}  // namespace sluice::rules
