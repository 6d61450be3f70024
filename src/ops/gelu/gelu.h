// Gaussian error linear unit (Hendrycks & Gimpel 2016): exact (erf), or GPT-2's tanh form
// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Which one is part of the model.
#pragma once

#include "ops/op.h"

namespace sluice {

enum class GeluForm : std::uint8_t { exact, tanh };

// `in_product`: where a product comes right before it, a backend may do both at once, and the
// product's result is then not rounded before GELU reads it.
struct Gelu {
  static constexpr const char* name = "gelu";
  Id x, y;
  GeluForm form = GeluForm::tanh;
  bool in_product = false;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.y, Access::write);
  }
};

struct GeluGrad {
  static constexpr const char* name = "gelu_grad";
  Id x, dy, dx;
  GeluForm form = GeluForm::tanh;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.dy, Access::read);
    visit(op.dx, Access::write);
  }
};

}  // namespace sluice
