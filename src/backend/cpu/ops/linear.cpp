// Linear and its gradients: three views of one product, 2·M·K·N flops each; limit: the fused
// multiply-adds of gemm(), or reading W once when there are few tokens.
//
// M tokens, K = in features, N = out features. A derived (packed) weight is used when the graph has
// one; without it gemm() packs W on the fly, to the same bits.
#include "backend/cpu/gemm.h"
#include "backend/cpu/ops/column_sum.h"
#include "backend/cpu/ops/launch.h"
#include "backend/cpu/ops/ops.h"

namespace sluice {

void run(CpuBackend& cpu, const Frame& frame, const Linear& op) {
  const Tensor& x = frame[op.x];
  const Tensor& y = frame[op.y];
  const std::int64_t in = features(x.shape());
  const std::int64_t out = features(y.shape());
  const bool packed = frame.has(op.packed);
  const Stored plain = op.out_in ? Stored::transposed : Stored::rows;
  multiply(cpu, Gemm{.m = tokens(x.shape()),
                     .n = out,
                     .k = in,
                     .a = x.data<float>(),
                     .lda = in,
                     .b = frame[packed ? op.packed : op.w].data<float>(),
                     .ldb = op.out_in ? in : out,
                     .b_stored = packed ? Stored::packed : plain,
                     .c = y.data<float>(),
                     .ldc = out,
                     .alpha = op.scale,
                     .bias = frame.has(op.bias) ? frame[op.bias].data<float>() : nullptr});
}

void run(CpuBackend& cpu, const Frame& frame, const LinearGradInput& op) {
  const Tensor& dy = frame[op.dy];
  const Tensor& dx = frame[op.dx];
  const std::int64_t in = features(dx.shape());
  const std::int64_t out = features(dy.shape());
  const bool packed = frame.has(op.packed);
  const Stored plain = op.out_in ? Stored::rows : Stored::transposed;
  multiply(cpu, Gemm{.m = tokens(dy.shape()),
                     .n = in,
                     .k = out,
                     .a = dy.data<float>(),
                     .lda = out,
                     .b = frame[packed ? op.packed : op.w].data<float>(),
                     .ldb = op.out_in ? in : out,
                     .b_stored = packed ? Stored::packed : plain,
                     .c = dx.data<float>(),
                     .ldc = in,
                     .alpha = op.scale});
}

// The sum over tokens runs in the blocks of gemm(), ascending; dW is written in W's own layout.
void run(CpuBackend& cpu, const Frame& frame, const LinearGradWeight& op) {
  const Tensor& x = frame[op.x];
  const Tensor& dy = frame[op.dy];
  const Tensor& left = op.out_in ? dy : x;
  const Tensor& right = op.out_in ? x : dy;
  const std::int64_t rows = features(left.shape());
  const std::int64_t cols = features(right.shape());
  multiply(cpu, Gemm{.m = rows,
                     .n = cols,
                     .k = tokens(x.shape()),
                     .a = left.data<float>(),
                     .lda = rows,
                     .a_stored = Stored::transposed,
                     .b = right.data<float>(),
                     .ldb = cols,
                     .b_stored = Stored::rows,
                     .c = frame[op.dw].data<float>(),
                     .ldc = cols,
                     .accumulate = !frame.first,
                     .alpha = op.scale});
  if (frame.has(op.dbias)) {
    const std::int64_t out = features(dy.shape());
    column_sum(cpu.pool(), dy.data<float>(), tokens(dy.shape()), out, out, !frame.first,
               frame[op.dbias].data<float>());
  }
}

}  // namespace sluice
