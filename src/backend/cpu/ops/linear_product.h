// The products of the linear ops without their results, for operands stored as T: what an op and
// its fused form share. M tokens, K = in features, N = out features.
//
// A derived (packed) weight is used when the graph has one; without it the product packs W on the
// fly, to the same bits.
#pragma once

#include "backend/cpu/ops/launch.h"

namespace sluice {

// scale * (x · W) + bias for a y of `out` features. `OneOp` is Linear or LinearGelu.
template <class T, class OneOp>
ProductOf<T> forward_product(const Frame& frame, const OneOp& op, std::int64_t out) {
  const Tensor& x = frame[op.x];
  const std::int64_t in = features(x.shape());
  const bool packed = frame.has(op.packed);
  const Stored plain = op.out_in ? Stored::transposed : Stored::rows;
  return {.m = tokens(x.shape()),
          .n = out,
          .k = in,
          .a = x.data<T>(),
          .lda = in,
          .b = frame[packed ? op.packed : op.w].template data<T>(),
          .ldb = op.out_in ? in : out,
          .b_stored = packed ? Stored::packed : plain,
          .ldc = out,
          .alpha = op.scale,
          .bias = frame.has(op.bias) ? frame[op.bias].template data<float>() : nullptr};
}

// scale * (dy · Wᵀ) for a dx of `in` features. `OneOp` is LinearGradInput or LinearGeluGrad.
template <class T, class OneOp>
ProductOf<T> backward_product(const Frame& frame, const OneOp& op, std::int64_t in) {
  const Tensor& dy = frame[op.dy];
  const std::int64_t out = features(dy.shape());
  const bool packed = frame.has(op.packed);
  const Stored plain = op.out_in ? Stored::rows : Stored::transposed;
  return {.m = tokens(dy.shape()),
          .n = in,
          .k = out,
          .a = dy.data<T>(),
          .lda = out,
          .b = frame[packed ? op.packed : op.w].template data<T>(),
          .ldb = op.out_in ? in : out,
          .b_stored = packed ? Stored::packed : plain,
          .ldc = in,
          .alpha = op.scale};
}

}  // namespace sluice
