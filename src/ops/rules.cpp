#include "ops/rules.h"

#include <algorithm>

namespace sluice {

void check(const Op& op, Types types) {
  for_each_operand(op, [&](Id id, Access) {
    if (id < 0 || static_cast<std::size_t>(id) >= types.size())
      shape_error(name_of(op), fmt::format("operands among {} values", types.size()),
                  fmt::format("value {}", id));
  });
  std::visit([&](const auto& one) { rules::check(one, types); }, op);
}

Cost cost(const Op& op, Types types) {
  return std::visit([&](const auto& one) { return rules::cost(one, types); }, op);
}

std::int64_t workspace_bytes(const Op& op, Types types, Workers workers) {
  const std::int64_t bytes =
      std::visit([&](const auto& one) { return rules::workspace_bytes(one, types, workers); }, op);
  return rules::round_up(bytes, rules::workspace_alignment);
}

void gradient(const Op& op, GradientBuilder& builder) {
  std::visit([&](const auto& one) { rules::gradient(one, builder); }, op);
}

namespace rules {

namespace {

bool is_compute(DType type) { return type == DType::f32 || type == DType::bf16; }

std::string text_of(const ValueType& value) {
  return fmt::format("{}{}", name_of(value.dtype), value.shape.text());
}

}  // namespace

const ValueType& Operands::at(const char* operand, Id id) const {
  if (id == no_value) shape_error(op_, fmt::format("an operand {}", operand), "none");
  return type_of(types_, id);
}

const Shape& Operands::activation(const char* operand, Id id) const {
  const ValueType& value = at(operand, id);
  const Shape& s = value.shape;
  const bool ok = is_compute(value.dtype) && s.rank() >= 3 && s[0].axis == Axis::batch &&
                  s[1].axis == Axis::time;
  if (!ok) shape_error(op_, fmt::format("{} f32 or bf16[B T …]", operand), text_of(value));
  return s;
}

DType Operands::floating(const char* operand, Id id) const {
  const ValueType& value = at(operand, id);
  if (!is_compute(value.dtype))
    shape_error(op_, fmt::format("{} f32 or bf16", operand), text_of(value));
  return value.dtype;
}

Shape Operands::heads(const char* operand, Slice slice) const {
  const Shape& s = activation(operand, slice.id);
  const bool fused = slice.parts > 1;
  const bool ok = slice.part >= 0 && slice.part < slice.parts && s.rank() == (fused ? 5 : 4) &&
                  (!fused || s[2] == Dim{Axis::parts, slice.parts}) &&
                  s[s.rank() - 2].axis == Axis::heads && s[s.rank() - 1].axis == Axis::head;
  const std::string form =
      fused ? fmt::format("P{} N H], part {}", slice.parts, slice.part) : std::string("N H]");
  if (!ok)
    shape_error(op_, fmt::format("{} f32 or bf16[B T {}", operand, form),
                text_of(type_of(types_, slice.id)));
  return {s[0], s[1], s[s.rank() - 2], s[s.rank() - 1]};
}

void Operands::expect(const char* operand, Id id, const Shape& shape, DType dtype) const {
  expect_shape(op_, operand, at(operand, id), shape, dtype);
}

void Operands::expect_if_present(const char* operand, Id id, const Shape& shape,
                                 DType dtype) const {
  if (id != no_value) expect(operand, id, shape, dtype);
}

void Operands::expect_count(const char* operand, Id id, std::int64_t count, DType dtype) const {
  const ValueType& value = at(operand, id);
  if (value.shape.count() == count && value.dtype == dtype) return;
  shape_error(op_, fmt::format("{} {} of {} elements", operand, name_of(dtype), count),
              text_of(value));
}

void Operands::expect_count_if_present(const char* operand, Id id, std::int64_t count,
                                       DType dtype) const {
  if (id != no_value) expect_count(operand, id, count, dtype);
}

void Operands::expect_that(bool ok, const std::string& expected, const std::string& found) const {
  if (!ok) shape_error(op_, expected, found);
}

Shape token_axes(const Shape& activation) { return {activation[0], activation[1]}; }

void no_gradient(const char* op, const char* reason) {
  throw Error(Exit::internal, {fmt::format("{} has no gradient: {}", op, reason), {}, {}, {}, {}});
}

}  // namespace rules
}  // namespace sluice
