#include "core/shape.h"

#include <algorithm>

namespace sluice {

Shape::Shape(std::initializer_list<Dim> dims) {
  for (const Dim& dim : dims) push_back(dim);
}

void Shape::push_back(Dim dim) {
  require(rank_ < max_rank, [&] { return Error(fmt::format("shape {} is full", text())); });
  dims_[rank_++] = dim;
}

bool Shape::operator==(const Shape& other) const {
  return std::equal(begin(), end(), other.begin(), other.end());
}

std::int64_t Shape::count() const {
  std::int64_t n = 1;
  for (const Dim& dim : *this) n *= dim.size;
  return n;
}

bool Shape::has(Axis axis) const {
  return std::any_of(begin(), end(), [&](const Dim& d) { return d.axis == axis; });
}

std::int64_t Shape::size(Axis axis) const {
  for (const Dim& dim : *this)
    if (dim.axis == axis) return dim.size;
  throw Error(fmt::format("{} has no axis {}", text(), static_cast<char>(axis)));
}

Shape Shape::with(Axis axis, std::int64_t size) const {
  require(has(axis),
          [&] { return Error(fmt::format("{} has no axis {}", text(), static_cast<char>(axis))); });
  Shape out = *this;
  for (int i = 0; i < rank_; ++i)
    if (out.dims_[i].axis == axis) out.dims_[i].size = size;
  return out;
}

std::string Shape::text() const {
  std::string out = "[";
  for (const Dim& dim : *this)
    out += fmt::format("{}{}{}", out.size() > 1 ? " " : "", static_cast<char>(dim.axis), dim.size);
  return out + "]";
}

}  // namespace sluice
