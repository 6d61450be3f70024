// What a gradient rule sees of the backward pass being derived.
//
// Rules append ops to two lists: the input part (I: what the layer below waits for) and the weight
// part (W: what only the update needs). A rule asks for the gradient of its outputs, emits ops that
// write contributions for its inputs, and never names micro-batches, memory or devices.
#pragma once

#include "ops/all.h"

namespace sluice {

class GradientBuilder {
 public:
  virtual ~GradientBuilder() = default;

  // The gradient that reached `y`, or no_value when nothing flows into it.
  virtual Id gradient_of(Id y) = 0;
  // True when `x` wants a gradient: an activation with gradient consumers below, not batch data.
  virtual bool wants(Id x) const = 0;
  // A fresh value shaped like `x`, to hold one contribution to the gradient of x. For a slice the
  // three parts of one fused value share one fresh value; each part must be written exactly once.
  virtual Slice contribution(Slice x) = 0;
  // Declares `dx` (a value from contribution(), or any value of x's shape) as a contribution;
  // several are summed in the order of the forward consumers, last consumer first.
  virtual void add(Id x, Id dx) = 0;
  // The accumulator of a weight's gradient; no_value when the weight is frozen.
  virtual Id accumulator(Id weight) = 0;
  virtual void emit_input(const Op& op) = 0;
  virtual void emit_weight(const Op& op) = 0;
};

// The rule of one op: one overload per forward op kind, dispatched over the variant. Ops that no
// gradient passes through (optimizer, derived, gradients themselves) throw.
void gradient(const Op& op, GradientBuilder& builder);

}  // namespace sluice
