// Causal attention: one struct for training, prefill and decoding; the model does not know which.
#pragma once

#include "ops/dropout/dropout.h"
#include "ops/op.h"

namespace sluice {

// Which kernels of a GPU may compute it; a CPU takes no notice. What a shape then gets follows from
// shape and type alone (ops/attention/pieces.h).
enum class AttentionKernels : std::uint8_t {
  own,        // this program's
  library,    // cuDNN's, every sum in one order. REQUIRES, as the next: every start is 0
  unordered,  // cuDNN's, sums of the gradient in an order of chance
};

// y[b t n] = softmax(scale * q[b t n] · k[b j n']) · v[b j n'] over the keys j that token t may
// see; n' = n / (N / K) for K key heads. q [B Tq N H], k and v [B Tq K H] (slices of a fused value,
// or values of their own), y [B Tq N H], lse f32 [B N Tq] = log of the softmax's denominator
// (natural log, scores scaled), kept for backward.
//   Training: token t sees starts[b t] <= j <= t (starts i32 [B T]: first token of its document).
//             Probabilities are dropped by `dropout` after the softmax (lse is that of all keys):
//             element ((row * N + n) * T + t) * round_up(T, 4) + j, row counting over the step.
//   Cached:   k and v are first written to the caches [B Tmax K H] at lengths[b] + t, then token t
//             sees 0 <= j <= lengths[b] + t of the cache; starts is absent. lengths i32 [B].
// No kernel stores Tq x T scores.
struct Attention {
  static constexpr const char* name = "attention";
  Slice q, k, v;
  Id starts = no_value;
  Id lengths = no_value, k_cache = no_value, v_cache = no_value;
  Id y = no_value, lse = no_value;
  float scale = 1;
  Id control = no_value;  // present when something is dropped
  DropoutKey dropout = {};
  AttentionKernels kernels = AttentionKernels::own;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.q.id, Access::read);
    visit(op.k.id, Access::read);
    visit(op.v.id, Access::read);
    visit(op.starts, Access::read);
    visit(op.lengths, Access::read);
    visit(op.k_cache, Access::update);
    visit(op.v_cache, Access::update);
    visit(op.control, Access::read);
    visit(op.y, Access::write);
    visit(op.lse, Access::write);
  }
};

// dq, dk, dv from the scores remade by tiles out of q, k and lse (Dao et al. 2022). dq, dk and dv
// may be slices of one fused value, whose three parts are all written.
struct AttentionGrad {
  static constexpr const char* name = "attention_grad";
  Slice q, k, v;
  Id starts, y, lse, dy;
  Slice dq, dk, dv;
  float scale = 1;
  Id control = no_value;
  DropoutKey dropout = {};
  AttentionKernels kernels = AttentionKernels::own;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.q.id, Access::read);
    visit(op.k.id, Access::read);
    visit(op.v.id, Access::read);
    visit(op.starts, Access::read);
    visit(op.y, Access::read);
    visit(op.lse, Access::read);
    visit(op.dy, Access::read);
    visit(op.control, Access::read);
    visit(op.dq.id, Access::write);
    visit(op.dk.id, Access::write);
    visit(op.dv.id, Access::write);
  }
};

}  // namespace sluice
