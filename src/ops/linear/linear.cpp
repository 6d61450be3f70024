#include "ops/linear/linear.h"

#include "ops/derived/derived.h"
#include "ops/rules.h"

namespace sluice::rules {

namespace {

struct Sizes {
  std::int64_t tokens, in, out;
};

Sizes sizes_of(const Shape& x, const Shape& y) { return {tokens(x), features(x), features(y)}; }

double product_flops(const Sizes& s) {
  return 2.0 * static_cast<double>(s.tokens) * static_cast<double>(s.in) *
         static_cast<double>(s.out);
}

// True when the leading axes of `w` hold `rows` numbers and the others `cols`.
bool splits(const Shape& w, std::int64_t rows, std::int64_t cols) {
  std::int64_t leading = 1;
  for (int i = 0; i <= w.rank(); ++i) {
    if (leading == rows && w.count() == rows * cols) return true;
    if (i < w.rank()) leading *= w[i].size;
  }
  return false;
}

// What every form shares: x and y have the same tokens, w holds in x out numbers in its layout.
Sizes check_product(const Operands& operands, const char* x_name, Id x, const char* y_name, Id y,
                    const char* w_name, Id w, bool out_in) {
  const Shape& xs = operands.activation(x_name, x);
  const Shape& ys = operands.activation(y_name, y);
  operands.expect_that(
      token_axes(xs) == token_axes(ys),
      fmt::format("{} with the tokens of {} {}", y_name, x_name, token_axes(xs).text()), ys.text());
  const Sizes s = sizes_of(xs, ys);
  const ValueType& weight = operands.at(w_name, w);
  const std::int64_t rows = out_in ? s.out : s.in;
  const std::int64_t cols = out_in ? s.in : s.out;
  operands.expect_that(
      weight.dtype == DType::f32 && splits(weight.shape, rows, cols),
      fmt::format("{} f32 of {} rows x {} columns ({}) for {} {} and {} {}", w_name, rows, cols,
                  out_in ? "[out in]" : "[in out]", x_name, xs.text(), y_name, ys.text()),
      fmt::format("{}{}", name_of(weight.dtype), weight.shape.text()));
  return s;
}

// With packed tiles at hand the weight itself is not read.
template <class OneOp>
Cost product_cost(OneOp op, Types types, const Sizes& s) {
  if (op.packed != no_value) op.w = op.packed;
  return cost_of(op, types, product_flops(s));
}

}  // namespace

void check(const Linear& op, Types types) {
  const Operands operands(op.name, types);
  const Sizes s = check_product(operands, "x", op.x, "y", op.y, "w", op.w, op.out_in);
  operands.expect_count_if_present("bias", op.bias, s.out);
  operands.expect_count_if_present("packed", op.packed, packed_count(s.in, s.out));
}

void check(const LinearGradInput& op, Types types) {
  const Operands operands(op.name, types);
  const Sizes s = check_product(operands, "dx", op.dx, "dy", op.dy, "w", op.w, op.out_in);
  operands.expect_count_if_present("packed", op.packed, packed_count(s.out, s.in));
}

void check(const LinearGradWeight& op, Types types) {
  const Operands operands(op.name, types);
  const Sizes s = check_product(operands, "x", op.x, "dy", op.dy, "dw", op.dw, op.out_in);
  operands.expect_count_if_present("dbias", op.dbias, s.out);
}

Cost cost(const Linear& op, Types types) {
  return product_cost(op, types, sizes_of(shape_of(types, op.x), shape_of(types, op.y)));
}

Cost cost(const LinearGradInput& op, Types types) {
  return product_cost(op, types, sizes_of(shape_of(types, op.dx), shape_of(types, op.dy)));
}

Cost cost(const LinearGradWeight& op, Types types) {
  const Sizes s = sizes_of(shape_of(types, op.x), shape_of(types, op.dy));
  return cost_of(op, types, product_flops(s));
}

void gradient(const Linear& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value) return;
  if (builder.wants(op.x)) {
    const Id dx = builder.contribution({op.x}).id;
    builder.emit_input(
        LinearGradInput{.dy = dy, .w = op.w, .dx = dx, .out_in = op.out_in, .scale = op.scale});
    builder.add(op.x, dx);
  }
  builder.emit_weight(
      LinearGradWeight{.x = op.x,
                       .dy = dy,
                       .dw = builder.accumulator(op.w),
                       .dbias = op.bias == no_value ? no_value : builder.accumulator(op.bias),
                       .out_in = op.out_in,
                       .scale = op.scale});
}

}  // namespace sluice::rules
