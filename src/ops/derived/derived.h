// Derived weights: remade from a weight by the action that updates it; never saved.
#pragma once

#include "ops/op.h"

namespace sluice {

// packed = the tiles that a backend's matrix product wants of the right-hand side B [k n], where B
// is the weight read as [k n], or its transpose when the weight is stored [n k]. packed [Y
// numbers], of w's type.
struct Pack {
  static constexpr const char* name = "pack";
  Id w, packed;
  std::int64_t k = 0, n = 0;
  bool transposed = false;  // w is stored [n k]
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.w, Access::read);
    visit(op.packed, Access::write);
  }
};

// Numbers in packed tiles: panels of 16 columns, padded with zeros; bf16 lies in pairs of rows.
inline std::int64_t packed_count(std::int64_t k, std::int64_t n, DType type = DType::f32) {
  return (n + 15) / 16 * 16 * (type == DType::bf16 ? (k + 1) / 2 * 2 : k);
}

}  // namespace sluice
