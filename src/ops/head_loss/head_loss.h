// Logits, softmax, cross entropy and their gradients over chunks of tokens, so that the logits of a
// batch never exist whole and no product runs twice.
#pragma once

#include "ops/op.h"

namespace sluice {

// logits = scale * (x · Wᵀ) + bias for the first `vocab` rows of W; nll = logsumexp -
// logits[target].
//   stats f64 [S2]: += { sum of weights * nll, sum of weights } (tokens in ascending order).
//   With gradients (dx present): dlogits = weights * (softmax - onehot), unnormalised, of x's type;
//   dx = scale * (dlogits · W), dw (+)= scale * (dlogitsᵀ · x), dbias (+)= column sums.
// x, dx [B T D]; w, dw [V D] with V >= vocab (rows beyond are padding: no probability, zero
// gradient); x, w and dx float32 or bf16, whose logits, losses and sums are float32; bias [V] may
// be absent; targets i32 [B T]; weights f32 [B T]. A token of weight 0 has no effect, whatever its
// target. `packed` serves x · Wᵀ, `packed_t` serves dlogits · W. The gradient is made inside the
// forward: its gradient rule emits nothing but dx.
struct HeadLoss {
  static constexpr const char* name = "head_loss";
  Id x, w, bias = no_value, targets, weights, stats;
  Id dx = no_value, dw = no_value, dbias = no_value;
  std::int64_t vocab = 0;
  std::int64_t chunk = 4096;  // tokens
  float scale = 1;
  Id packed = no_value, packed_t = no_value;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.w, Access::read);
    visit(op.bias, Access::read);
    visit(op.targets, Access::read);
    visit(op.weights, Access::read);
    visit(op.packed, Access::read);
    visit(op.packed_t, Access::read);
    visit(op.stats, Access::accumulate);
    visit(op.dx, Access::write);
    visit(op.dw, Access::accumulate);
    visit(op.dbias, Access::accumulate);
  }
};

// Float32 numbers from the logits of one token to those of the next in the workspace of HeadLoss:
// whole cache lines of 16. For bf16 an odd number of them, so that the dlogits of neighbouring
// tokens, which a product reads column by column, lie in different sets of a cache.
inline std::int64_t head_loss_line(std::int64_t rows, DType type) {
  const std::int64_t lines = (rows + 15) / 16;
  return 16 * (type == DType::bf16 ? lines | 1 : lines);
}

}  // namespace sluice
