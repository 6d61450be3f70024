// The end of a step: gradient norms, the pending update, and AdamW that applies it.
#pragma once

#include "ops/op.h"
#include "ops/optimizer/spikes.h"

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
struct Control {                              // written by the host for each step
  enum : int { lr, step, first_row, slots };  // first_row: of the micro-batch, within the step
};
struct Pending {  // the update that the next program applies
  enum : int { lr, step, scale, apply, slots };
};
struct Results {  // read by the host a step late; two rows, row = step % 2
  enum : int { loss, grad_norm, weight, finite, step, bad, skipped, slots };
};
// Closes a step: from stats {Σ weight·nll, Σ weight} and the tensors' norms
//   results[step % 2] = { loss, ‖g‖ / Σweight, Σweight, finite, step, bad, skipped }
//     (bad = index of the first norm that is not finite, -1 when all are)
//   pending = { lr, step, min(1, clip / ‖g‖ normalised) / Σweight, finite }
// so that the update multiplies unnormalised gradients by one scalar. clip <= 0: no clipping.
// When the loss or any norm is not finite, `apply` is 0 and nothing will change. Nor will it when
// `spikes` is there and the loss or the norm lies more than `deviations` standard deviations (of
// the sample, n - 1) above the mean of the window, which this step is not yet part of; `skipped`
// then says which. Every finite step enters the window, a skipped one too, so that what stays is no
// spike.
struct FinishStep {
  static constexpr const char* name = "finish_step";
  Id stats, norms, control, pending, results, spikes = no_value;
  float clip = 0, deviations = 0;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.stats, Access::read);
    visit(op.norms, Access::read);
    visit(op.control, Access::read);
    visit(op.pending, Access::write);
    visit(op.results, Access::update);
    visit(op.spikes, Access::update);
  }
};

// How gradients rest between the step that made them and the update that uses them. They are summed
// in float32 and rounded once; the norm, the clip and AdamW see the rounded values. Vectors (rank
// 1) stay float32.
enum class GradientFormat : std::uint8_t {
  f32,
  bf16,  // to nearest, ties to even
  int8,  // blocks of 128 within a row, rounded at random: formats.h
};

// g = g rounded to `format`, in place, as float32 numbers: what storing and loading it would give.
// int8: element e draws from dropout_stream(stream, layer, control.step) under `seed`; g has rank
// >= 2. What is not finite stays so (int8: with all of its block). With `codes` and `scales`, int8
// alone, what is stored is written too: codes u8 of g's shape, the bytes of int8 numbers; scales
// f32, one per block, rows in order.
struct RoundGradient {
  static constexpr const char* name = "round_gradient";
  Id g, control, codes = no_value, scales = no_value;
  GradientFormat format = GradientFormat::bf16;
  std::uint64_t seed = 0, stream = 0;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.g, Access::update);
    visit(op.control, Access::read);
    visit(op.codes, Access::write);
    visit(op.scales, Access::write);
  }
};

// g = the float32 numbers that RoundGradient stored as codes and scales: the bits that it left in
// its g.
struct RestoreGradient {
  static constexpr const char* name = "restore_gradient";
  Id codes, scales, g;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.codes, Access::read);
    visit(op.scales, Access::read);
    visit(op.g, Access::write);
  }
};

// AdamW (Loshchilov & Hutter 2019), bias-corrected, in float32. With g = pending.scale * gradient,
// t = pending.step, lr = pending.lr * part's lr:
//   m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²
//   w -= lr * ( m/(1-β1ᵗ) / (sqrt(v/(1-β2ᵗ)) + eps) + decay * w )
// Nothing changes when pending.apply is 0. A weight fused along its parts axis ([D P3 N H]) has one
// row of multipliers per part; others use row 0. `parts_inner` = numbers per part in a row.
//
// Three forms of weight and state, told apart by the types of the operands; the formats are those
// of ops/optimizer/formats.h:
//   float32  w, m, v f32.
//   exact    w bf16 and low i16 are a float32 master; m, v f32. The bits of float32, with a bf16
//   copy
//            of the master rounded half up.
//   compact  w bf16, written rounded at random; m u8 and v u8 in blocks of 128 numbers within a
//   row,
//            with float32 scales m_scale, v_scale [rows, blocks]; w has rank >= 2. The division
//            uses v as read_v() gives it, never too small; the v that is kept goes on from
//            decode_v(). Element e draws once, from dropout_stream(stream, layer, t) under `seed`:
//            the upper 16 bits for w, the lower ones for v.
struct AdamWPart {
  float lr = 1;     // multiplies pending.lr
  float decay = 0;  // the decay itself, its multiplier applied
  float eps = 1e-8f;
};
struct AdamW {
  static constexpr const char* name = "adamw";
  Id w, low = no_value, g, m, v, m_scale = no_value, v_scale = no_value, pending;
  float beta1 = 0.9f, beta2 = 0.95f;
  AdamWPart part[3] = {};
  std::int32_t parts = 1;
  std::int64_t parts_inner = 0;
  std::uint64_t seed = 0, stream = 0;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.w, Access::update);
    visit(op.low, Access::update);
    visit(op.g, Access::read);
    visit(op.m, Access::update);
    visit(op.v, Access::update);
    visit(op.m_scale, Access::update);
    visit(op.v_scale, Access::update);
    visit(op.pending, Access::read);
  }
};

// average = decay * average + (1 - decay) * w, after the update of w; not when pending.apply is 0.
// w as AdamW's: f32, bf16, or with low a master. average f32.
struct Ema {
  static constexpr const char* name = "ema";
  Id w, low = no_value, average, pending;
  float decay = 0.999f;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.w, Access::read);
    visit(op.low, Access::read);
    visit(op.average, Access::update);
    visit(op.pending, Access::read);
  }
};

}  // namespace sluice
