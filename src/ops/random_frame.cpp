#include "ops/random_frame.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice {

namespace {

double rounded_to(DType dtype, double x) {
  if (dtype == DType::f32) return static_cast<float>(x);
  if (dtype == DType::bf16) return static_cast<float>(bf16(static_cast<float>(x)));
  return x;
}

}  // namespace

double RandomFrame::uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

Id RandomFrame::add(const Shape& shape, DType dtype, std::vector<double> values) {
  require(static_cast<std::int64_t>(values.size()) == shape.count(),
          [&] { return Error(fmt::format("{} numbers for {}", values.size(), shape.text())); });
  for (double& x : values) x = rounded_to(dtype, x);
  values_.push_back({{dtype, shape}, std::move(values)});
  return static_cast<Id>(values_.size() - 1);
}

Id RandomFrame::random(const Shape& shape, double deviation, double mean, DType dtype) {
  std::vector<double> values(static_cast<std::size_t>(shape.count()));
  for (double& x : values) x = mean + deviation * std::sqrt(3.0) * (2 * uniform() - 1);
  return add(shape, dtype, std::move(values));
}

Id RandomFrame::integers(const Shape& shape, std::int64_t low, std::int64_t high) {
  std::vector<double> values(static_cast<std::size_t>(shape.count()));
  for (double& x : values)
    x = std::floor(static_cast<double>(low) + uniform() * static_cast<double>(high - low + 1));
  return add(shape, DType::i32, std::move(values));
}

Id RandomFrame::numbers(const Shape& shape, DType dtype, std::vector<double> values) {
  return add(shape, dtype, std::move(values));
}

Id RandomFrame::poisoned(const Shape& shape, DType dtype) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  return add(shape, dtype, std::vector<double>(static_cast<std::size_t>(shape.count()), nan));
}

Id RandomFrame::accumulator(const Shape& shape, bool first, DType dtype) {
  return first ? poisoned(shape, dtype) : random(shape, 1, 0, dtype);
}

void RandomFrame::run(const Op& op) {
  reference(op, values_);
  for (Id id : written_by(op)) {
    RefValue& value = (*this)[id];
    for (double& x : value.numbers) x = rounded_to(value.type.dtype, x);
  }
}

std::vector<Id> written_by(const Op& op) {
  std::vector<Id> ids;
  for_each_operand(op, [&](Id id, Access access) {
    if (access != Access::read && std::find(ids.begin(), ids.end(), id) == ids.end())
      ids.push_back(id);
  });
  return ids;
}

std::vector<ValueType> types_of(std::span<const RefValue> frame) {
  std::vector<ValueType> types;
  for (const RefValue& value : frame) types.push_back(value.type);
  return types;
}

double relative_error(std::span<const double> a, std::span<const double> b) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return infinity;
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  if (!std::isfinite(difference)) return infinity;
  return std::sqrt(norm == 0 ? difference : difference / norm);
}

}  // namespace sluice
