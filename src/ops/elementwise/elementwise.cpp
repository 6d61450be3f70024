#include "ops/elementwise/elementwise.h"

#include "ops/rules.h"

namespace sluice::rules {

namespace {

bool is_float(DType type) {
  return type == DType::f32 || type == DType::bf16 || type == DType::f64;
}

double count_of(Types types, Id id) { return static_cast<double>(shape_of(types, id).count()); }

}  // namespace

void check(const Add& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& shape = operands.at("a", op.a).shape;
  const DType type = operands.floating("a", op.a);
  operands.expect("b", op.b, shape, type);
  operands.expect("y", op.y, shape, type);
}

void check(const Scale& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& shape = operands.at("x", op.x).shape;
  operands.expect("y", op.y, shape, operands.floating("x", op.x));
}

void check(const Cast& op, Types types) {
  const Operands operands(op.name, types);
  const ValueType& x = operands.at("x", op.x);
  const ValueType& y = operands.at("y", op.y);
  operands.expect_that(is_float(x.dtype) && is_float(y.dtype), "floating-point x and y",
                       fmt::format("{} and {}", name_of(x.dtype), name_of(y.dtype)));
  operands.expect("y", op.y, x.shape, y.dtype);
}

void check(const AddInto& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& shape = operands.at("x", op.x).shape;
  operands.expect("x", op.x, shape);
  operands.expect("y", op.y, shape);
}

Cost cost(const Add& op, Types types) {
  return cost_of(op, types, (op.scale_b == 1 ? 1 : 2) * count_of(types, op.y));
}
Cost cost(const Scale& op, Types types) { return cost_of(op, types, count_of(types, op.y)); }
Cost cost(const Cast& op, Types types) { return cost_of(op, types, 0); }
Cost cost(const AddInto& op, Types types) { return cost_of(op, types, count_of(types, op.y)); }

void gradient(const Add& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value) return;
  if (builder.wants(op.a)) builder.add(op.a, dy);
  if (!builder.wants(op.b)) return;
  if (op.scale_b == 1) return builder.add(op.b, dy);
  const Id db = builder.contribution({op.b}).id;
  builder.emit_input(Scale{.x = dy, .y = db, .factor = op.scale_b});
  builder.add(op.b, db);
}

void gradient(const Scale& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value || !builder.wants(op.x)) return;
  const Id dx = builder.contribution({op.x}).id;
  builder.emit_input(Scale{.x = dy, .y = dx, .factor = op.factor});
  builder.add(op.x, dx);
}

void gradient(const Cast& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value || !builder.wants(op.x)) return;
  const Id dx = builder.contribution({op.x}).id;
  builder.emit_input(Cast{.x = dy, .y = dx});
  builder.add(op.x, dx);
}

}  // namespace sluice::rules
