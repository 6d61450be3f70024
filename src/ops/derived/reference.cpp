#include "ops/loops.h"

namespace sluice::loops {

// Panels of 16 columns: [n / 16][k][16], the last panel's missing columns zero.
void reference(const Pack& op, Loop& loop) {
  const auto& w = loop.in(op.w);
  auto& packed = loop.out(op.packed);
  for (std::int64_t row = 0; row < op.k; ++row)
    for (std::int64_t column = 0; column < op.n; ++column) {
      const std::int64_t panel = column / 16;
      at(packed, (panel * op.k + row) * 16 + column % 16) =
          op.transposed ? at(w, column * op.k + row) : at(w, row * op.n + column);
    }
}

}  // namespace sluice::loops
