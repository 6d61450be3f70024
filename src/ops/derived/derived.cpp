#include "ops/derived/derived.h"

#include "ops/rules.h"

namespace sluice::rules {

void check(const Pack& op, Types types) {
  const Operands operands(op.name, types);
  operands.expect_that(op.k > 0 && op.n > 0, "a product of at least 1 x 1",
                       fmt::format("{} x {}", op.k, op.n));
  const DType type = operands.floating("w", op.w);
  operands.expect_count("w", op.w, op.k * op.n, type);
  operands.expect_count("packed", op.packed, packed_count(op.k, op.n, type), type);
}

Cost cost(const Pack& op, Types types) { return cost_of(op, types, 0); }

}  // namespace sluice::rules
