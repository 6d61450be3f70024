#include "ops/op.h"

namespace sluice {

std::int64_t tokens(const Shape& shape) {
  std::int64_t n = 1;
  for (const Dim& dim : shape)
    if (dim.axis == Axis::batch || dim.axis == Axis::time) n *= dim.size;
  return n;
}

std::int64_t features(const Shape& shape) {
  std::int64_t n = 1;
  for (const Dim& dim : shape)
    if (dim.axis != Axis::batch && dim.axis != Axis::time) n *= dim.size;
  return n;
}

void shape_error(const char* op, const std::string& expected, const std::string& found) {
  throw Error(Exit::internal, {fmt::format("{}: shapes do not fit", op), {}, expected, found, {}});
}

void expect_shape(const char* op, const char* operand, const ValueType& value,
                  const Shape& expected, DType dtype) {
  if (value.shape == expected && value.dtype == dtype) return;
  shape_error(op, fmt::format("{} {}{}", operand, name_of(dtype), expected.text()),
              fmt::format("{}{}", name_of(value.dtype), value.shape.text()));
}

}  // namespace sluice
