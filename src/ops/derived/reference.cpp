#include "ops/loops.h"

namespace sluice::loops {

// Panels of 16 columns: [n / 16][k][16], of bf16 [n / 16][k / 2][16][2]; what is missing of the
// last panel and of the last pair is zero.
void reference(const Pack& op, Loop& loop) {
  const auto& w = loop.in(op.w);
  auto& packed = loop.out(op.packed);
  const std::int64_t group = loop.dtype(op.w) == DType::bf16 ? 2 : 1;
  for (std::int64_t row = 0; row < op.k; ++row)
    for (std::int64_t column = 0; column < op.n; ++column) {
      const std::int64_t lines = (op.k + group - 1) / group;
      const std::int64_t word = (column / 16 * lines + row / group) * 16 + column % 16;
      at(packed, word * group + row % group) =
          op.transposed ? at(w, column * op.k + row) : at(w, row * op.n + column);
    }
}

}  // namespace sluice::loops
