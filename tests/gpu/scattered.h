// An op on values of more than 2³¹ numbers, held against the double loop.
//
// A case is written small: seven units, each a row or a few of them. On the GPU the same op runs on
// many units, of which seven are those of the case, at the two ends, around the number 2³¹ and in
// between; all others are zeros. What each unit has of its own must come out as in the small case,
// and so must what is summed over units: zeros add nothing.
#pragma once

#include <array>
#include <functional>

#include "shared_gpu.h"

namespace sluice {

class Scattered {
 public:
  static constexpr std::int64_t units = 7, border = std::int64_t{1} << 31;

  // Values whose first axis is a multiple of seven are cut into units, the others are whole.
  // As many units as bring the largest value past the border, or `count`.
  explicit Scattered(OpCase small, std::int64_t count = 0);

  std::int64_t count() const { return count_; }
  const std::array<std::int64_t, units>& places() const { return places_; }
  OpCase& small() { return small_; }
  // The op as it runs on all units, where it is another: it counts rows itself.
  void set_op(const Op& op) { op_ = op; }
  // What stands in the units that are not the case's, for ids of a table: unit by unit.
  void set_background(Id id, std::function<std::int32_t(std::int64_t unit)> numbers) {
    background_.emplace_back(id, std::move(numbers));
  }

  // Runs it and returns the case's frame with what came out. Every float of a result was written.
  TestFrame run() const;
  // That all of `ids` came out as in the reference.
  void expect_close(const TestFrame& found, double bf16_bound = bf16_kernel_tolerance) const;

 private:
  bool in_units(Id id) const;

  OpCase small_;
  Op op_;
  std::int64_t count_ = 0;
  std::array<std::int64_t, units> places_{};
  std::vector<std::pair<Id, std::function<std::int32_t(std::int64_t)>>> background_;
};

}  // namespace sluice
