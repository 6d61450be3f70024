// Shapes whose axes say what they are: "cut heads in 4" needs no index, and an error reads
// [B8 T2048 D768]. Row-major; the last axis is contiguous.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/error.h"

namespace sluice {

// The two sides of a square weight have different names: D (model) and E (model, as an output).
enum class Axis : char {
  batch = 'B',
  time = 'T',
  model = 'D',      // width, as an input of a product
  model_out = 'E',  // width, as an output of a product
  parts = 'P',      // query | key | value inside a fused projection
  heads = 'N',
  head = 'H',    // size of one head
  hidden = 'F',  // inner width of the MLP
  vocab = 'V',
  positions = 'L',
  chunk = 'C',
  bytes = 'Y',   // opaque storage, such as packed tiles
  scalar = 'S',  // a short table of numbers
};

struct Dim {
  Axis axis;
  std::int64_t size;
  bool operator==(const Dim&) const = default;
};

// At most 6 axes, held in place: a Shape never allocates, so the step loop may copy one.
class Shape {
 public:
  static constexpr int max_rank = 6;
  Shape() = default;
  Shape(std::initializer_list<Dim> dims);

  int rank() const { return rank_; }
  const Dim* begin() const { return dims_; }
  const Dim* end() const { return dims_ + rank_; }
  const Dim& operator[](int i) const { return dims_[i]; }
  bool operator==(const Shape& other) const;

  void push_back(Dim dim);
  std::int64_t count() const;  // product of all sizes; 1 for a scalar
  std::int64_t last() const { return rank_ == 0 ? 1 : dims_[rank_ - 1].size; }
  std::int64_t rows() const { return last() == 0 ? 0 : count() / last(); }
  bool has(Axis axis) const;
  std::int64_t size(Axis axis) const;              // throws when the axis is absent
  Shape with(Axis axis, std::int64_t size) const;  // a copy with that axis resized
  std::string text() const;                        // "[B8 T2048 D768]"

 private:
  Dim dims_[max_rank] = {};
  int rank_ = 0;
};

}  // namespace sluice
