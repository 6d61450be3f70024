// The end of a step: gradient norms, the pending update, and AdamW that applies it.
#pragma once

#include "ops/op.h"

namespace sluice {

// norms[index] = sum of x², in chunks of fixed size, float64. norms f64 [S n]: one entry per tensor
// of the model, summed later in tensor order whatever order gradients are ready in.
struct SquaredNorm {
  static constexpr const char* name = "squared_norm";
  Id x, norms;
  std::int32_t index = 0;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.norms, Access::update);
  }
};

// Slots of the short float64 tables that programs pass around.
struct Control {  // written by the host for each step
  enum : int { lr, step, slots };
};
struct Pending {  // the update that the next program applies
  enum : int { lr, step, scale, apply, slots };
};
struct Results {  // read by the host a step late; two rows, row = step % 2
  enum : int { loss, grad_norm, weight, finite, step, bad, slots };
};

// Closes a step: from stats {Σ weight·nll, Σ weight} and the tensors' norms
//   results[step % 2] = { loss, ‖g‖ / Σweight, Σweight, finite, step, bad }
//     (bad = index of the first norm that is not finite, -1 when all are)
//   pending = { lr, step, min(1, clip / ‖g‖ normalised) / Σweight, finite }
// so that the update multiplies unnormalised gradients by one scalar. clip <= 0: no clipping.
// When the loss or any norm is not finite, `apply` is 0 and nothing will change.
struct FinishStep {
  static constexpr const char* name = "finish_step";
  Id stats, norms, control, pending, results;
  float clip = 0;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.stats, Access::read);
    visit(op.norms, Access::read);
    visit(op.control, Access::read);
    visit(op.pending, Access::write);
    visit(op.results, Access::update);
  }
};

// AdamW (Loshchilov & Hutter 2019), bias-corrected, float32 state. With g = pending.scale *
// gradient, t = pending.step, lr = pending.lr * part's lr:
//   m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²
//   w -= lr * ( m/(1-β1ᵗ) / (sqrt(v/(1-β2ᵗ)) + eps) + decay * w )
// Nothing changes when pending.apply is 0. A weight fused along its parts axis ([D P3 N H]) has one
// row of multipliers per part; others use row 0. `parts_inner` = numbers per part in a row.
struct AdamWPart {
  float lr = 1;     // multiplies pending.lr
  float decay = 0;  // the decay itself, its multiplier applied
  float eps = 1e-8f;
};
struct AdamW {
  static constexpr const char* name = "adamw";
  Id w, g, m, v, pending;
  float beta1 = 0.9f, beta2 = 0.95f;
  AdamWPart part[3] = {};
  std::int32_t parts = 1;
  std::int64_t parts_inner = 0;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.w, Access::update);
    visit(op.g, Access::read);
    visit(op.m, Access::update);
    visit(op.v, Access::update);
    visit(op.pending, Access::read);
  }
};

}  // namespace sluice
