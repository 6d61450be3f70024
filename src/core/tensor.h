// A view of memory with a type and a shape. It owns nothing and never allocates.
#pragma once

#include <cassert>
#include <cstddef>
#include <span>

#include "core/dtype.h"
#include "core/shape.h"

namespace sluice {

class Tensor {
 public:
  Tensor() = default;
  Tensor(void* data, DType dtype, const Shape& shape) : data_(data), dtype_(dtype), shape_(shape) {}

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t count() const { return shape_.count(); }
  std::int64_t bytes() const { return count() * size_of(dtype_); }
  std::int64_t rows() const { return shape_.rows(); }
  std::int64_t cols() const { return shape_.last(); }
  explicit operator bool() const { return data_ != nullptr; }
  void* raw() const { return data_; }

  // The type is checked once, in the launcher; kernels get raw pointers and sizes.
  template <class T>
  T* data() const {
    require(dtype_ == dtype_of<T>(), [&] {
      return Error(fmt::format("tensor {} holds {}, not {}", shape_.text(), name_of(dtype_),
                               name_of(dtype_of<T>())));
    });
    return static_cast<T*>(data_);
  }
  template <class T>
  std::span<T> values() const {
    return {data<T>(), static_cast<std::size_t>(count())};
  }

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::f32;
  Shape shape_;
};

}  // namespace sluice
