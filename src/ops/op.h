// What every op gives besides its struct. Each op struct has
//   static constexpr const char* name;
//   template <class Self, class Visit> static void operands(Self& op, Visit visit);
// where visit(id, Access) is called once per operand; and, in its folder's .cpp, overloads of the
// functions below: check (shape rule), cost, workspace, gradient (rule), reference (double loop).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "ops/value.h"

namespace sluice {

// Shapes and types of a graph's values, seen read-only by shape rules and cost rules.
struct ValueType {
  DType dtype = DType::f32;
  Shape shape;
};
using Types = std::span<const ValueType>;

// Arithmetic and least memory traffic of one execution.
struct Cost {
  double flops = 0;       // multiply and add count one each
  double read_bytes = 0;  // each operand once
  double write_bytes = 0;
};

// What a workspace formula may depend on besides shapes.
struct Workers {
  int threads = 1;
};

// Number of tokens of an activation [B T …]: the product of its batch and time axes.
std::int64_t tokens(const Shape& shape);
// Features per token of an activation: count / tokens.
std::int64_t features(const Shape& shape);

// An error of a shape rule: "linear attn.c_attn: …" with expected and found.
[[noreturn]] void shape_error(const char* op, const std::string& expected,
                              const std::string& found);
void expect_shape(const char* op, const char* operand, const ValueType& value,
                  const Shape& expected, DType dtype);

}  // namespace sluice
