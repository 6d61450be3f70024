// Affine maps over the features of each token. Weights keep their checkpoint's layout: GPT-2's
// Conv1D stores [in out], torch.nn.Linear stores [out in].
#pragma once

#include "ops/gelu/gelu.h"
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

// Fused: h = scale * (x · W) + bias, rounded to its type, and y = gelu(h). Made by fuse().
struct LinearGelu {
  static constexpr const char* name = "linear_gelu";
  Id x, w, bias, h, y;
  bool out_in = false;
  float scale = 1;
  GeluForm form = GeluForm::exact;
  Id packed = no_value;
  bool in_product = false;  // ops/gelu/gelu.h
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.w, Access::read);
    visit(op.bias, Access::read);
    visit(op.packed, Access::read);
    visit(op.h, Access::write);
    visit(op.y, Access::write);
  }
};

// Fused: dh = gelu'(h) * (scale * (dy · Wᵀ), rounded to dh's type): the gradient that passes
// through the linear map and the GELU before it. Made by fuse(). A GPU's library does not round in
// between (tanh, in bf16).
struct LinearGeluGrad {
  static constexpr const char* name = "linear_gelu_grad";
  Id dy, w, h, dh;
  bool out_in = false;
  float scale = 1;
  GeluForm form = GeluForm::exact;
  Id packed = no_value;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.dy, Access::read);
    visit(op.w, Access::read);
    visit(op.h, Access::read);
    visit(op.packed, Access::read);
    visit(op.dh, Access::write);
  }
};

// dW (+)= scale * (xᵀ · dy), in W's layout; dbias (+)= column sums of dy. One of the two may be
// absent (a frozen one), and without dw x is too.
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
