// Linear and its gradients: three views of one product, 2·M·K·N flops each; limit: the multiply-
// adds of gemm() or gemm_bf16(), or reading W once when there are few tokens.
#include "backend/cpu/ops/column_sum.h"
#include "backend/cpu/ops/linear_product.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"

namespace sluice {
namespace {

template <class Product>
void multiply_rows(CpuBackend& cpu, Product product, Tiles tiles) {
  product.first_row = tiles.first;
  product.last_row = tiles.last;
  multiply(cpu, product);
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Linear& op, Tiles tiles) {
  const Tensor& y = frame[op.y];
  with_storage(frame[op.x].dtype(), [&]<class T>() {
    ProductOf<T> product = forward_product<T>(frame, op, features(y.shape()));
    write_to(product, y);
    multiply_rows(cpu, product, tiles);
  });
}

void run(CpuBackend& cpu, const Frame& frame, const LinearGradInput& op, Tiles tiles) {
  const Tensor& dx = frame[op.dx];
  with_storage(frame[op.dy].dtype(), [&]<class T>() {
    ProductOf<T> product = backward_product<T>(frame, op, features(dx.shape()));
    write_to(product, dx);
    multiply_rows(cpu, product, tiles);
  });
}

// The sum over tokens runs in the blocks of the product, ascending; dW is written in W's own
// layout.
void run(CpuBackend& cpu, const Frame& frame, const LinearGradWeight& op, Tiles tiles) {
  const Tensor& dy = frame[op.dy];
  const std::int64_t count = tokens(dy.shape());
  with_storage(dy.dtype(), [&]<class T>() {
    if (frame.has(op.dw)) {
      const Tensor& x = frame[op.x];
      const Tensor& left = op.out_in ? dy : x;
      const Tensor& right = op.out_in ? x : dy;
      const std::int64_t rows = features(left.shape());
      const std::int64_t cols = features(right.shape());
      ProductOf<T> product = {.m = rows,
                              .n = cols,
                              .k = count,
                              .a = left.data<T>(),
                              .lda = rows,
                              .a_stored = Stored::transposed,
                              .b = right.data<T>(),
                              .ldb = cols,
                              .b_stored = Stored::rows,
                              .ldc = cols,
                              .accumulate = !frame.first,
                              .alpha = op.scale};
      write_to(product, frame[op.dw]);
      multiply_rows(cpu, product, tiles);
    }
    if (tiles.first == 0 && frame.has(op.dbias)) {
      const std::int64_t out = features(dy.shape());
      column_sum(cpu.pool(), cpu.isa(), dy.data<T>(), count, out, out, !frame.first,
                 frame[op.dbias].data<float>());
    }
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Linear& op) { run(cpu, frame, op, Tiles{}); }

void run(CpuBackend& cpu, const Frame& frame, const LinearGradInput& op) {
  run(cpu, frame, op, Tiles{});
}

void run(CpuBackend& cpu, const Frame& frame, const LinearGradWeight& op) {
  run(cpu, frame, op, Tiles{});
}

}  // namespace sluice
