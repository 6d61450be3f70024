// LinearGelu and LinearGeluGrad. In bf16 the GELU works on each part of the product while it lies
// in the cache: it costs about 30 vector instructions per 16 numbers beside 2·K multiply-adds a
// number, and no traffic but h, y and dh themselves. Limit: the multiply-adds of gemm_bf16().
//
// h is rounded before the GELU reads it, so that the bits are those of the two ops one after the
// other, which is how float32 runs.
#include <algorithm>

#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/linear_product.h"
#include "backend/cpu/ops/ops.h"

namespace sluice {
namespace {

const RoundedGelu& kernels(CpuBackend& cpu) {
  return kernels_of(cpu.isa(), portable_elementwise, avx2_elementwise, avx512_elementwise)
      .rounded_gelu;
}

// finish(part, offset) for each part of those rows of the product, where the offset is that of its
// place in a result [m, product.ldc].
template <class Finish>
void multiply_then(CpuBackend& cpu, GemmBf16 product, Tiles rows, Finish finish) {
  const std::int64_t ld = product.ldc;
  const auto finish_tile = [=](const FinishedTile& tile) {
    finish(ProductPart{.from = tile.data,
                       .from_ld = tile.ld,
                       .ld = ld,
                       .rows = tile.rows,
                       .columns = tile.columns},
           tile.row * ld + tile.column);
  };
  product.finish = FinishTile(finish_tile);
  product.first_row = rows.first;
  product.last_row = rows.last;
  multiply(cpu, product);
}

// Those rows of an activation.
Tensor cut(const Tensor& whole, Tiles rows) {
  const std::int64_t width = features(whole.shape());
  const std::int64_t last = std::min(rows.last, tokens(whole.shape()));
  return {whole.data<float>() + rows.first * width,
          DType::f32,
          {{Axis::time, last - rows.first}, {Axis::hidden, width}}};
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const LinearGelu& op, Tiles tiles) {
  const Tensor& h_value = frame[op.h];
  if (h_value.dtype() != DType::bf16) {
    run(cpu, frame,
        Linear{.x = op.x,
               .w = op.w,
               .bias = op.bias,
               .y = op.h,
               .out_in = op.out_in,
               .scale = op.scale,
               .packed = op.packed},
        tiles);
    const Tensor rows[] = {cut(h_value, tiles), cut(frame[op.y], tiles)};
    run(cpu, {.values = rows, .workspace = {}}, Gelu{.x = 0, .y = 1, .form = op.form});
    return;
  }
  bf16* const h = h_value.data<bf16>();
  bf16* const y = frame[op.y].data<bf16>();
  const auto gelu = op.form == GeluForm::tanh ? kernels(cpu).tanh : kernels(cpu).exact;
  multiply_then(
      cpu, forward_product<bf16>(frame, op, features(h_value.shape())), tiles,
      [=](const ProductPart& x, std::int64_t offset) { gelu(x, h + offset, y + offset); });
}

void run(CpuBackend& cpu, const Frame& frame, const LinearGeluGrad& op, Tiles tiles) {
  const Tensor& dh_value = frame[op.dh];
  if (dh_value.dtype() != DType::bf16) {
    run(cpu, frame,
        LinearGradInput{.dy = op.dy,
                        .w = op.w,
                        .dx = op.dh,
                        .out_in = op.out_in,
                        .scale = op.scale,
                        .packed = op.packed},
        tiles);
    const Tensor rows[] = {cut(frame[op.h], tiles), cut(dh_value, tiles)};
    run(cpu, {.values = rows, .workspace = {}},
        GeluGrad{.x = 0, .dy = 1, .dx = 1, .form = op.form});
    return;
  }
  const bf16* const h = frame[op.h].data<bf16>();
  bf16* const dh = dh_value.data<bf16>();
  const auto grad = op.form == GeluForm::tanh ? kernels(cpu).tanh_grad : kernels(cpu).exact_grad;
  multiply_then(
      cpu, backward_product<bf16>(frame, op, features(dh_value.shape())), tiles,
      [=](const ProductPart& dy, std::int64_t offset) { grad(dy, h + offset, dh + offset); });
}

void run(CpuBackend& cpu, const Frame& frame, const LinearGelu& op) {
  run(cpu, frame, op, Tiles{});
}

void run(CpuBackend& cpu, const Frame& frame, const LinearGeluGrad& op) {
  run(cpu, frame, op, Tiles{});
}

}  // namespace sluice
