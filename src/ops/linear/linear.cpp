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
                    const char* w_name, Id w, bool out_in, DType w_type) {
  const Shape& xs = operands.activation(x_name, x);
  const Shape& ys = operands.activation(y_name, y);
  operands.expect_that(
      token_axes(xs) == token_axes(ys),
      fmt::format("{} with the tokens of {} {}", y_name, x_name, token_axes(xs).text()), ys.text());
  const Sizes s = sizes_of(xs, ys);
  const ValueType& weight = operands.at(w_name, w);
  const std::int64_t rows = out_in ? s.out : s.in;
  const std::int64_t cols = out_in ? s.in : s.out;
  operands.expect_that(weight.dtype == w_type && splits(weight.shape, rows, cols),
                       fmt::format("{} {} of {} rows x {} columns ({}) for {} {} and {} {}", w_name,
                                   name_of(w_type), rows, cols, out_in ? "[out in]" : "[in out]",
                                   x_name, xs.text(), y_name, ys.text()),
                       fmt::format("{}{}", name_of(weight.dtype), weight.shape.text()));
  return s;
}

// With packed tiles at hand the weight itself is not read.
template <class OneOp>
Cost product_cost(OneOp op, Types types, const Sizes& s) {
  if (op.packed != no_value) op.w = op.packed;
  return cost_of(op, types, product_flops(s));
}

// What a forward form checks: bf16 may come out as bf16 or, for logits, as float32.
template <class OneOp>
Sizes check_forward(const Operands& operands, const OneOp& op, const char* y_name, Id y) {
  const DType type = operands.floating("x", op.x);
  const Sizes s = check_product(operands, "x", op.x, y_name, y, "w", op.w, op.out_in, type);
  operands.expect_that(operands.dtype(y_name, y) == type || operands.dtype(y_name, y) == DType::f32,
                       fmt::format("{} {} or f32", y_name, name_of(type)),
                       std::string(name_of(operands.dtype(y_name, y))));
  operands.expect_count_if_present("bias", op.bias, s.out);
  operands.expect_count_if_present("packed", op.packed, packed_count(s.in, s.out, type), type);
  return s;
}

template <class OneOp>
void check_backward(const Operands& operands, const OneOp& op, const char* dx_name, Id dx) {
  const DType type = operands.floating("dy", op.dy);
  const Sizes s = check_product(operands, dx_name, dx, "dy", op.dy, "w", op.w, op.out_in, type);
  operands.expect_that(operands.dtype(dx_name, dx) == type,
                       fmt::format("{} {}", dx_name, name_of(type)),
                       std::string(name_of(operands.dtype(dx_name, dx))));
  operands.expect_count_if_present("packed", op.packed, packed_count(s.out, s.in, type), type);
}

}  // namespace

void check(const Linear& op, Types types) {
  check_forward(Operands(op.name, types), op, "y", op.y);
}

void check(const LinearGelu& op, Types types) {
  const Operands operands(op.name, types);
  check_forward(operands, op, "h", op.h);
  operands.expect("y", op.y, operands.at("h", op.h).shape, operands.dtype("h", op.h));
}

void check(const LinearGradInput& op, Types types) {
  check_backward(Operands(op.name, types), op, "dx", op.dx);
}

void check(const LinearGeluGrad& op, Types types) {
  const Operands operands(op.name, types);
  check_backward(operands, op, "dh", op.dh);
  operands.expect("h", op.h, operands.at("dh", op.dh).shape, operands.dtype("dh", op.dh));
}

void check(const LinearGradWeight& op, Types types) {
  const Operands operands(op.name, types);
  const DType type = operands.floating("dy", op.dy);
  operands.expect_that(op.dw != no_value || op.dbias != no_value, "dw or dbias", "neither");
  operands.expect_that((op.x == no_value) == (op.dw == no_value), "x together with dw",
                       op.x == no_value ? "dw alone" : "x alone");
  const std::int64_t out = features(operands.activation("dy", op.dy));
  if (op.dw != no_value) {
    operands.expect_that(operands.dtype("x", op.x) == type, fmt::format("x {}", name_of(type)),
                         std::string(name_of(operands.dtype("x", op.x))));
    check_product(operands, "x", op.x, "dy", op.dy, "dw", op.dw, op.out_in, DType::f32);
  }
  operands.expect_count_if_present("dbias", op.dbias, out);
}

Cost cost(const Linear& op, Types types) {
  return product_cost(op, types, sizes_of(shape_of(types, op.x), shape_of(types, op.y)));
}

Cost cost(const LinearGelu& op, Types types) {
  Cost total = product_cost(op, types, sizes_of(shape_of(types, op.x), shape_of(types, op.h)));
  total.flops += 18.0 * static_cast<double>(shape_of(types, op.h).count());
  return total;
}

Cost cost(const LinearGradInput& op, Types types) {
  return product_cost(op, types, sizes_of(shape_of(types, op.dx), shape_of(types, op.dy)));
}

Cost cost(const LinearGeluGrad& op, Types types) {
  Cost total = product_cost(op, types, sizes_of(shape_of(types, op.dh), shape_of(types, op.dy)));
  total.flops += 26.0 * static_cast<double>(shape_of(types, op.dh).count());
  return total;
}

Cost cost(const LinearGradWeight& op, Types types) {
  if (op.dw == no_value) return cost_of(op, types, 0);
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
  const Id dw = builder.accumulator(op.w);
  const Id dbias = op.bias == no_value ? no_value : builder.accumulator(op.bias);
  if (dw == no_value && dbias == no_value) return;  // both are frozen
  builder.emit_weight(LinearGradWeight{             // A frozen weight's input is not kept for it.
                                       .x = dw == no_value ? no_value : op.x,
                                       .dy = dy,
                                       .dw = dw,
                                       .dbias = dbias,
                                       .out_in = op.out_in,
                                       .scale = op.scale});
}

}  // namespace sluice::rules
