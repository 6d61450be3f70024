// Sums, scales, casts and in-place accumulation.
#pragma once

#include "ops/op.h"

namespace sluice {

// y = a + scale_b * b. The residual add; scale_b is the branch multiplier of the parametrization.
struct Add {
  static constexpr const char* name = "add";
  Id a, b, y;
  float scale_b = 1;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.a, Access::read);
    visit(op.b, Access::read);
    visit(op.y, Access::write);
  }
};

// y = factor * x.
struct Scale {
  static constexpr const char* name = "scale";
  Id x, y;
  float factor = 1;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.y, Access::write);
  }
};

// y = x in y's element type (float32 <-> bfloat16, to nearest even).
struct Cast {
  static constexpr const char* name = "cast";
  Id x, y;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.y, Access::write);
  }
};

// y += x, once per step: joins the two accumulators of a tied weight.
struct AddInto {
  static constexpr const char* name = "add_into";
  Id x, y;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.y, Access::update);
  }
};

}  // namespace sluice
