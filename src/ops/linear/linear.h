// Affine maps over the features of each token. Weights keep their checkpoint's layout: GPT-2's
// Conv1D stores [in out], torch.nn.Linear stores [out in].
#pragma once

#include "ops/op.h"

namespace sluice {

// y = scale * (x · W) + bias.  x [B T in…], y [B T out…]; W holds in·out numbers, [in… out…], or
// [out… in…] when out_in; bias [out…] may be absent. `packed` is the derived weight that a backend
// may ask for (Pack), absent otherwise.
struct Linear {
  static constexpr const char* name = "linear";
  Id x, w, bias, y;
  bool out_in = false;
  float scale = 1;
  Id packed = no_value;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.w, Access::read);
    visit(op.bias, Access::read);
    visit(op.packed, Access::read);
    visit(op.y, Access::write);
  }
};

// dx = scale * (dy · Wᵀ). `packed` is the derived weight of the transposed product.
struct LinearGradInput {
  static constexpr const char* name = "linear_grad_input";
  Id dy, w, dx;
  bool out_in = false;
  float scale = 1;
  Id packed = no_value;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.dy, Access::read);
    visit(op.w, Access::read);
    visit(op.packed, Access::read);
    visit(op.dx, Access::write);
  }
};

// dW (+)= scale * (xᵀ · dy), in W's layout; dbias (+)= column sums of dy, or absent.
struct LinearGradWeight {
  static constexpr const char* name = "linear_grad_weight";
  Id x, dy, dw, dbias;
  bool out_in = false;
  float scale = 1;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.dy, Access::read);
    visit(op.dw, Access::accumulate);
    visit(op.dbias, Access::accumulate);
  }
};

}  // namespace sluice
