// Dropout (Srivastava et al. 2014): the same mask under recompute, threads and micro-batch splits.
#pragma once

#include "ops/op.h"

namespace sluice {

// Where a mask's random bits come from. Element e of a value of the whole step's batch is kept when
//   random_bits(seed, dropout_stream(stream, layer, step), e) >= dropout_threshold(rate),
// `layer` being the frame's, and `step` and the batch's first row those of `control`. Backward and
// recompute ask the same question and get the same answer; nothing is stored.
struct DropoutKey {
  float rate = 0;  // 0 <= rate < 1; 0: nothing is dropped, and control may be absent
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  // of the value's name
};

std::uint32_t dropout_threshold(float rate);
std::uint64_t dropout_stream(std::uint64_t stream, int layer, std::int64_t step);

// y = x / (1 - rate) where kept, 0 elsewhere. x, y [B T …]; element e counts over [rows of the
// step, T, …], so it starts at control.first_row * T * features. Its own gradient rule: dx =
// dropout(dy).
struct Dropout {
  static constexpr const char* name = "dropout";
  Id x, y, control = no_value;
  DropoutKey key = {};
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.x, Access::read);
    visit(op.control, Access::read);
    visit(op.y, Access::write);
  }
};

}  // namespace sluice
