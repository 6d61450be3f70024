#include "ops/dropout/dropout.h"

#include <cmath>

#include "ops/optimizer/optimizer.h"
#include "ops/rules.h"

namespace sluice {

std::uint32_t dropout_threshold(float rate) {
  return static_cast<std::uint32_t>(std::llround(static_cast<double>(rate) * 0x1p32));
}

// SplitMix64's finalizer (Steele, Lea, Flood 2014) over the three numbers, one after the other.
std::uint64_t dropout_stream(std::uint64_t stream, int layer, std::int64_t step) {
  const auto mix = [](std::uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  };
  return mix(mix(stream ^ static_cast<std::uint64_t>(layer)) ^ static_cast<std::uint64_t>(step));
}

namespace rules {

void check(const Dropout& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& x = operands.activation("x", op.x);
  operands.expect("y", op.y, x, operands.dtype("x", op.x));
  operands.expect_that(op.key.rate >= 0 && op.key.rate < 1, "0 <= rate < 1",
                       fmt::format("{}", op.key.rate));
  if (op.key.rate > 0) operands.expect_count("control", op.control, Control::slots, DType::f64);
}

// Ten rounds of Philox draw four numbers: counted as ten operations each.
Cost cost(const Dropout& op, Types types) {
  return cost_of(op, types, 12.0 * static_cast<double>(shape_of(types, op.x).count()));
}

void gradient(const Dropout& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value || !builder.wants(op.x)) return;
  const Id dx = builder.contribution({op.x}).id;
  builder.emit_input(Dropout{.x = dy, .y = dx, .control = op.control, .key = op.key});
  builder.add(op.x, dx);
}

}  // namespace rules
}  // namespace sluice
