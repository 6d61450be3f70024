// HeadLoss: per chunk of tokens one product for the logits, the softmax in place, and with
// gradients two more products: 2·M·D·V flops each; limit: the fused multiply-adds of gemm().
//
// x_MD  w_VD  dx_MD  dw_VD  logits_CL (C tokens of a chunk, L = V rounded up to 16)
#include <algorithm>
#include <cmath>

#include "backend/cpu/ops/column_sum.h"
#include "backend/cpu/ops/head_loss_kernel.h"
#include "backend/cpu/ops/launch.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

// Everything of one op that its steps share.
struct Head {
  const HeadLoss& op;
  const Frame& frame;
  std::int64_t count, width, rows, line;  // M, D, V, L
  const std::int32_t* targets_M;
  const float* weights_M;
  float* logits_CL;
  double* nll_C;
  bool gradient;

  Head(const HeadLoss& o, const Frame& f)
      : op(o),
        frame(f),
        count(tokens(f[o.x].shape())),
        width(features(f[o.x].shape())),
        rows(f[o.w].rows()),
        line((rows + panel_columns - 1) / panel_columns * panel_columns),
        targets_M(f[o.targets].data<std::int32_t>()),
        weights_M(f[o.weights].data<float>()),
        logits_CL(reinterpret_cast<float*>(f.workspace.data())),
        nll_C(reinterpret_cast<double*>(logits_CL + chunk() * line)),
        gradient(f.has(o.dx)) {
    const std::int64_t need = chunk() * (line * 4 + 8);
    require(need <= static_cast<std::int64_t>(f.workspace.size()), [&] {
      return Error(fmt::format("head_loss got {} bytes of workspace and needs {}",
                               f.workspace.size(), need));
    });
  }
  std::int64_t chunk() const { return std::min(op.chunk, count); }
};

// A target is data: one outside the vocabulary is refused, unless its weight is 0.
void expect_targets(const Head& head) {
  for (std::int64_t t = 0; t < head.count; ++t) {
    const std::int32_t target = head.targets_M[t];
    require((0 <= target && target < head.op.vocab) || head.weights_M[t] == 0, [&] {
      return Error(Exit::input, {.what = fmt::format("target {} is outside a vocabulary of {}",
                                                     target, head.op.vocab),
                                 .where = fmt::format("token {} of the batch", t),
                                 .expected = fmt::format("0 <= target < {}", head.op.vocab),
                                 .found = fmt::format("{}", target),
                                 .tries = {"data written with this model's tokenizer"}});
    });
  }
}

void make_logits(CpuBackend& cpu, const Head& head, std::int64_t begin, std::int64_t size) {
  const HeadLoss& op = head.op;
  const bool packed = head.frame.has(op.packed);
  multiply(cpu, {.m = size,
                 .n = op.vocab,
                 .k = head.width,
                 .a = head.frame[op.x].data<float>() + begin * head.width,
                 .lda = head.width,
                 .b = head.frame[packed ? op.packed : op.w].data<float>(),
                 .ldb = head.width,
                 .b_stored = packed ? Stored::packed : Stored::transposed,
                 .c = head.logits_CL,
                 .ldc = head.line,
                 .alpha = op.scale,
                 .bias = head.frame.has(op.bias) ? head.frame[op.bias].data<float>() : nullptr});
}

// Losses of a chunk; its logits become dlogits when there are gradients.
void softmax(CpuBackend& cpu, const Head& head, std::int64_t begin, std::int64_t size) {
  const HeadLossKernel& kernel =
      kernels_of(cpu.isa(), portable_head_loss, avx2_head_loss, avx512_head_loss);
  for_tiles(cpu.pool(), size, row_tile(head.line), {}, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t t = from; t < to; ++t) {
      float* const logits = head.logits_CL + t * head.line;
      const float weight = head.weights_M[begin + t];
      if (weight == 0) {
        if (head.gradient) std::fill_n(logits, head.line, 0.0f);
        continue;
      }
      const HeadSums sums = kernel.row({.logits = logits,
                                        .vocab = head.op.vocab,
                                        .padded = head.line,
                                        .target = head.targets_M[begin + t],
                                        .weight = weight,
                                        .gradient = head.gradient});
      head.nll_C[t] =
          static_cast<double>(sums.maximum) + std::log(sums.sum) - static_cast<double>(sums.target);
    }
  });
}

void add_losses(const Head& head, std::int64_t begin, std::int64_t size) {
  double* const stats = head.frame[head.op.stats].data<double>();
  for (std::int64_t t = 0; t < size; ++t) {
    const double weight = head.weights_M[begin + t];
    if (weight == 0) continue;
    stats[0] += weight * head.nll_C[t];
    stats[1] += weight;
  }
}

// dx, dw and dbias from the chunk's dlogits. The padding columns of dlogits are zero.
void make_gradients(CpuBackend& cpu, const Head& head, std::int64_t begin, std::int64_t size) {
  const HeadLoss& op = head.op;
  const bool packed = head.frame.has(op.packed_t);
  const bool add = begin > 0 || !head.frame.first;
  multiply(cpu, {.m = size,
                 .n = head.width,
                 .k = head.rows,
                 .a = head.logits_CL,
                 .lda = head.line,
                 .b = head.frame[packed ? op.packed_t : op.w].data<float>(),
                 .ldb = head.width,
                 .b_stored = packed ? Stored::packed : Stored::rows,
                 .c = head.frame[op.dx].data<float>() + begin * head.width,
                 .ldc = head.width,
                 .alpha = op.scale});
  multiply(cpu, {.m = head.rows,
                 .n = head.width,
                 .k = size,
                 .a = head.logits_CL,
                 .lda = head.line,
                 .a_stored = Stored::transposed,
                 .b = head.frame[op.x].data<float>() + begin * head.width,
                 .ldb = head.width,
                 .b_stored = Stored::rows,
                 .c = head.frame[op.dw].data<float>(),
                 .ldc = head.width,
                 .accumulate = add,
                 .alpha = op.scale});
  if (head.frame.has(op.dbias)) {
    column_sum(cpu.pool(), head.logits_CL, size, head.rows, head.line, add,
               head.frame[op.dbias].data<float>());
  }
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const HeadLoss& op) {
  const Head head(op, frame);
  expect_targets(head);
  if (frame.first) std::fill_n(frame[op.stats].data<double>(), 2, 0.0);
  for (std::int64_t begin = 0; begin < head.count; begin += head.chunk()) {
    const std::int64_t size = std::min(head.chunk(), head.count - begin);
    make_logits(cpu, head, begin, size);
    softmax(cpu, head, begin, size);
    add_losses(head, begin, size);
    if (head.gradient) make_gradients(cpu, head, begin, size);
  }
}

}  // namespace sluice
