#include "ops/head_loss/head_loss.h"

#include <algorithm>

#include "ops/rules.h"

namespace sluice::rules {

void check(const HeadLoss& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& x = operands.activation("x", op.x);
  const ValueType& w = operands.at("w", op.w);
  const DType type = operands.dtype("x", op.x);
  operands.expect_that(w.dtype == type && w.shape.rank() == 2 && w.shape.last() == features(x),
                       fmt::format("w {}[V {}]", name_of(type), features(x)),
                       fmt::format("{}{}", name_of(w.dtype), w.shape.text()));
  const std::int64_t rows = w.shape[0].size;
  operands.expect_that(op.vocab > 0 && op.vocab <= rows,
                       fmt::format("a vocabulary of 1 to {} tokens (rows of w)", rows),
                       fmt::format("{}", op.vocab));
  operands.expect_that(op.chunk > 0, "chunks of at least one token", fmt::format("{}", op.chunk));
  operands.expect_if_present("bias", op.bias, {w.shape[0]});
  operands.expect("targets", op.targets, token_axes(x), DType::i32);
  operands.expect("weights", op.weights, token_axes(x));
  operands.expect_count("stats", op.stats, 2, DType::f64);
  operands.expect_count_if_present("packed", op.packed, packed_count(features(x), rows, type),
                                   type);
  operands.expect_count_if_present("packed_t", op.packed_t, packed_count(rows, features(x), type),
                                   type);
  operands.expect_if_present("dx", op.dx, x, type);
  operands.expect_if_present("dw", op.dw, w.shape);
  operands.expect_if_present("dbias", op.dbias, {w.shape[0]});
  const bool dx = op.dx != no_value;
  const bool dw = op.dw != no_value;
  const bool dbias = op.dbias != no_value;
  operands.expect_that((dx || (!dw && !dbias)) && (!dbias || op.bias != no_value),
                       "dw and dbias together with dx, or none of them (a frozen one is absent)",
                       fmt::format("dx {}, dw {}, dbias {}", dx, dw, dbias));
}

// One product without gradients, three with; the softmax is counted as ten operations a logit.
Cost cost(const HeadLoss& op, Types types) {
  const Shape& x = shape_of(types, op.x);
  const double logits =
      static_cast<double>(tokens(x)) * static_cast<double>(shape_of(types, op.w)[0].size);
  const double products = 1.0 + (op.dx != no_value) + (op.dw != no_value);
  return cost_of(op, types, logits * (products * 2.0 * static_cast<double>(features(x)) + 10.0));
}

// The logits of one chunk, and a float64 loss per token of it.
std::int64_t workspace_bytes(const HeadLoss& op, Types types, Workers) {
  const Shape& x = shape_of(types, op.x);
  const std::int64_t rows = shape_of(types, op.w)[0].size;
  const std::int64_t chunk = std::min(op.chunk, tokens(x));
  return chunk * (head_loss_line(rows, type_of(types, op.x).dtype) * 4 + 8);
}

// Everything but dx was made inside the forward op.
void gradient(const HeadLoss& op, GradientBuilder& builder) {
  if (op.dx == no_value) no_gradient(op.name, "this one was built without gradients");
  if (builder.wants(op.x)) builder.add(op.x, op.dx);
}

}  // namespace sluice::rules
