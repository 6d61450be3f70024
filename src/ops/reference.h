// The slow, obvious meaning of every op, in double precision: textbook loops that kernels are
// compared with, and that finite differences check. No SIMD, no threads, no cleverness.
#pragma once

#include <span>
#include <vector>

#include "ops/all.h"

namespace sluice {

// One value of a reference frame: numbers in double, integers exactly.
struct RefValue {
  ValueType type;
  std::vector<double> numbers;
};

// Runs `op` on `frame` (indexed by value id). `first` tells accumulators to be overwritten; `layer`
// is part of the key of random numbers.
void reference(const Op& op, std::span<RefValue> frame, bool first = true, int layer = 0);

}  // namespace sluice
