#include "ops/embed/embed.h"

#include "ops/rules.h"

namespace sluice::rules {

namespace {

// Both directions: rows of `table` by `ids`, activations `y`.
void check_rows(const char* name, Types types, Id ids, Id table, Id y, const char* table_name,
                const char* y_name, bool gradient) {
  const Operands operands(name, types);
  const ValueType& t = operands.at(table_name, table);
  const Shape& s = operands.activation(y_name, y);
  // A table has the type of what is looked up; its gradient is float32.
  const DType type = gradient ? DType::f32 : operands.dtype(y_name, y);
  operands.expect_that(t.shape.rank() == 2 && t.dtype == type,
                       fmt::format("{} {}[rows features]", table_name, name_of(type)),
                       fmt::format("{}{}", name_of(t.dtype), t.shape.text()));
  operands.expect("ids", ids, token_axes(s), DType::i32);
  operands.expect(y_name, y, {s[0], s[1], t.shape[1]}, operands.dtype(y_name, y));
}

}  // namespace

void check(const Embed& op, Types types) {
  check_rows(op.name, types, op.ids, op.table, op.y, "table", "y", false);
}

void check(const EmbedGrad& op, Types types) {
  check_rows(op.name, types, op.ids, op.dtable, op.dy, "dtable", "dy", true);
}

// Only the rows that are looked up are touched, whatever the size of the table.
Cost cost(const Embed& op, Types types) {
  const double rows = bytes_of(types, op.y);
  return {.flops = 0, .read_bytes = bytes_of(types, op.ids) + rows, .write_bytes = rows};
}

Cost cost(const EmbedGrad& op, Types types) {
  const double rows = bytes_of(types, op.dy);
  return {.flops = static_cast<double>(shape_of(types, op.dy).count()),
          .read_bytes = bytes_of(types, op.ids) + 2 * rows,
          .write_bytes = rows};
}

void gradient(const Embed& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value) return;
  const Id dtable = builder.accumulator(op.table);
  if (dtable == no_value) return;  // frozen
  builder.emit_weight(EmbedGrad{.ids = op.ids, .dy = dy, .dtable = dtable});
}

}  // namespace sluice::rules
