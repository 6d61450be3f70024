// Layer normalisation (Ba et al. 2016) over the features of each token, and its fusion with the
// residual add before it.
#pragma once

#include "ops/op.h"

namespace sluice {

// y = (x - mean) * rstd * gain + bias over the last axis; rstd = 1 / sqrt(variance + eps), the
// variance from centred values. x, y [B T D], gain, bias [D]; mean, rstd f32 [B T], kept for
// backward. `bias` may be absent.
struct LayerNorm {
  static constexpr const char* name = "layer_norm";
  Id x, gain, bias, y, mean, rstd;
  float eps = 1e-5f;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.gain, Access::read);
    visit(op.bias, Access::read);
    visit(op.y, Access::write);
    visit(op.mean, Access::write);
    visit(op.rstd, Access::write);
  }
};

// sum = a + scale_b * b, then LayerNorm of sum. Bit-equal to Add followed by LayerNorm: the stored
// sum is rounded before the norm reads it.
struct ResidualNorm {
  static constexpr const char* name = "residual_norm";
  Id a, b, sum, gain, bias, y, mean, rstd;
  float scale_b = 1;
  float eps = 1e-5f;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.a, Access::read);
    visit(op.b, Access::read);
    visit(op.sum, Access::write);
    visit(op.gain, Access::read);
    visit(op.bias, Access::read);
    visit(op.y, Access::write);
    visit(op.mean, Access::write);
    visit(op.rstd, Access::write);
  }
};

// dx of LayerNorm. With `plus`, an activation like dx, dx = plus + the gradient as it would be
// stored: the bits of Add after it.
struct LayerNormGradInput {
  static constexpr const char* name = "layer_norm_grad_input";
  Id x, gain, mean, rstd, dy, dx;
  Id plus = no_value;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.gain, Access::read);
    visit(op.mean, Access::read);
    visit(op.rstd, Access::read);
    visit(op.dy, Access::read);
    visit(op.dx, Access::write);
    visit(op.plus, Access::read);
  }
};

// dgain and dbias, summed over tokens in chunks of fixed size.
struct LayerNormGradWeight {
  static constexpr const char* name = "layer_norm_grad_weight";
  Id x, mean, rstd, dy, dgain, dbias;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.mean, Access::read);
    visit(op.rstd, Access::read);
    visit(op.dy, Access::read);
    visit(op.dgain, Access::accumulate);
    visit(op.dbias, Access::accumulate);
  }
};

}  // namespace sluice
