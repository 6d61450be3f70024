// Rotary position embedding, interleaved pairs (GPT-J): of each head's first `dims` numbers,
// (x[2i], x[2i+1]) turns by positions * base^(-2i/dims); the rest passes through.
#pragma once

#include "ops/op.h"

namespace sluice {

// x, y [B T N H]; positions i32 [B T]; dims even, <= H. `inverse` turns back: the gradient rule.
struct Rotary {
  static constexpr const char* name = "rotary";
  Id x, positions, y;
  std::int32_t dims = 0;
  float base = 10000;
  bool inverse = false;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.positions, Access::read);
    visit(op.y, Access::write);
  }
};

}  // namespace sluice
