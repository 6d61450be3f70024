#include "ops/layer_norm/layer_norm.h"

#include "ops/rules.h"

namespace sluice::rules {

namespace {

double count_of(Types types, Id id) { return static_cast<double>(shape_of(types, id).count()); }

// What every form shares: x [B T D], statistics [B T].
Shape check_statistics(const Operands& operands, const char* x_name, Id x, Id mean, Id rstd) {
  const Shape& shape = operands.activation(x_name, x);
  operands.expect_that(shape.rank() == 3, fmt::format("{} [B T D]", x_name), shape.text());
  operands.expect("mean", mean, token_axes(shape));
  operands.expect("rstd", rstd, token_axes(shape));
  return {shape[2]};
}

}  // namespace

void check(const LayerNorm& op, Types types) {
  const Operands operands(op.name, types);
  const Shape row = check_statistics(operands, "x", op.x, op.mean, op.rstd);
  operands.expect("y", op.y, shape_of(types, op.x), operands.dtype("x", op.x));
  operands.expect("gain", op.gain, row);
  operands.expect_if_present("bias", op.bias, row);
}

void check(const ResidualNorm& op, Types types) {
  const Operands operands(op.name, types);
  const Shape row = check_statistics(operands, "a", op.a, op.mean, op.rstd);
  operands.expect("b", op.b, shape_of(types, op.a), operands.dtype("a", op.a));
  operands.expect("sum", op.sum, shape_of(types, op.a), operands.dtype("a", op.a));
  operands.expect("y", op.y, shape_of(types, op.a), operands.dtype("a", op.a));
  operands.expect("gain", op.gain, row);
  operands.expect_if_present("bias", op.bias, row);
}

void check(const LayerNormGradInput& op, Types types) {
  const Operands operands(op.name, types);
  const Shape row = check_statistics(operands, "x", op.x, op.mean, op.rstd);
  operands.expect("gain", op.gain, row);
  operands.expect("dy", op.dy, shape_of(types, op.x), operands.dtype("x", op.x));
  operands.expect("dx", op.dx, shape_of(types, op.x), operands.dtype("x", op.x));
  if (op.plus != no_value)
    operands.expect("plus", op.plus, shape_of(types, op.x), operands.dtype("x", op.x));
}

void check(const LayerNormGradWeight& op, Types types) {
  const Operands operands(op.name, types);
  const Shape row = check_statistics(operands, "x", op.x, op.mean, op.rstd);
  operands.expect("dy", op.dy, shape_of(types, op.x), operands.dtype("x", op.x));
  operands.expect_that(op.dgain != no_value || op.dbias != no_value, "dgain or dbias", "neither");
  operands.expect_if_present("dgain", op.dgain, row);
  operands.expect_if_present("dbias", op.dbias, row);
}

// Per element: sum, centre, square, sum, scale, gain, bias.
Cost cost(const LayerNorm& op, Types types) {
  return cost_of(op, types, 7 * count_of(types, op.x));
}
Cost cost(const ResidualNorm& op, Types types) {
  return cost_of(op, types, 9 * count_of(types, op.a));
}
Cost cost(const LayerNormGradInput& op, Types types) {
  return cost_of(op, types, (op.plus == no_value ? 11 : 12) * count_of(types, op.x));
}
Cost cost(const LayerNormGradWeight& op, Types types) {
  return cost_of(op, types, 5 * count_of(types, op.x));
}

// Partial sums of dgain and dbias, one row each per chunk of tokens.
std::int64_t workspace_bytes(const LayerNormGradWeight& op, Types types, Workers) {
  const Shape& shape = shape_of(types, op.x);
  const std::int64_t chunks = (tokens(shape) + token_chunk - 1) / token_chunk;
  return chunks * 2 * shape.last() * 4;
}

void gradient(const LayerNorm& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value) return;
  if (builder.wants(op.x)) {
    const Id dx = builder.contribution({op.x}).id;
    builder.emit_input(LayerNormGradInput{
        .x = op.x, .gain = op.gain, .mean = op.mean, .rstd = op.rstd, .dy = dy, .dx = dx});
    builder.add(op.x, dx);
  }
  const Id dgain = builder.accumulator(op.gain);
  const Id dbias = op.bias == no_value ? no_value : builder.accumulator(op.bias);
  if (dgain == no_value && dbias == no_value) return;  // both are frozen
  builder.emit_weight(LayerNormGradWeight{
      .x = op.x, .mean = op.mean, .rstd = op.rstd, .dy = dy, .dgain = dgain, .dbias = dbias});
}

void gradient(const ResidualNorm& op, GradientBuilder&) {
  no_gradient(op.name, "the backward pass is derived before fusion");
}

}  // namespace sluice::rules
