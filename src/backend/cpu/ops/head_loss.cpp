// HeadLoss: per chunk of tokens one product for the logits, the softmax in place, and with
// gradients two more products: 2·M·D·V flops each; limit: the multiply-adds of gemm() or
// gemm_bf16().
//
// x_MD  w_VD  dx_MD  dw_VD  logits_CL (C tokens of a chunk, L = head_loss_line(V) numbers)
// Logits are float32 for either type. Of bf16 operands the dlogits are rounded once to bf16, into
// the front half of their token's logits: a logit is written and read once (8 bytes and the line
// fetched for the write), a dlogit written once and read by both products.
#include <algorithm>
#include <cmath>

#include "backend/cpu/ops/column_sum.h"
#include "backend/cpu/ops/head_loss_kernel.h"
#include "backend/cpu/ops/launch.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

// Everything of one op that its steps share. T: what x, W and the dlogits are stored as.
template <class T>
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
        line(head_loss_line(rows, f[o.x].dtype())),
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
  std::int64_t padded() const { return (rows + panel_columns - 1) / panel_columns * panel_columns; }
  // A token's dlogits lie at the front of its logits.
  T* dlogits() const { return reinterpret_cast<T*>(logits_CL); }
  std::int64_t dline() const { return line * 4 / static_cast<std::int64_t>(sizeof(T)); }
};

// A target is data: one outside the vocabulary is refused, unless its weight is 0.
template <class T>
void expect_targets(const Head<T>& head) {
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

template <class T>
void make_logits(CpuBackend& cpu, const Head<T>& head, std::int64_t begin, std::int64_t size) {
  const HeadLoss& op = head.op;
  const bool packed = head.frame.has(op.packed);
  multiply(cpu,
           ProductOf<T>{.m = size,
                        .n = op.vocab,
                        .k = head.width,
                        .a = head.frame[op.x].template data<T>() + begin * head.width,
                        .lda = head.width,
                        .b = head.frame[packed ? op.packed : op.w].template data<T>(),
                        .ldb = head.width,
                        .b_stored = packed ? Stored::packed : Stored::transposed,
                        .c = head.logits_CL,
                        .ldc = head.line,
                        .alpha = op.scale,
                        .bias = head.frame.has(op.bias) ? head.frame[op.bias].template data<float>()
                                                        : nullptr});
}

// Losses of a chunk; its logits become dlogits when there are gradients.
template <class T>
void softmax(CpuBackend& cpu, const Head<T>& head, std::int64_t begin, std::int64_t size) {
  const HeadLossKernel& kernel =
      kernels_of(cpu.isa(), portable_head_loss, avx2_head_loss, avx512_head_loss);
  const auto softmax_row = std::is_same_v<T, bf16> ? kernel.row_bf16 : kernel.row;
  for_tiles(cpu.pool(), size, row_tile(head.line), {}, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t t = from; t < to; ++t) {
      const HeadRow row = {.logits = head.logits_CL + t * head.line,
                           .vocab = head.op.vocab,
                           .padded = head.padded(),
                           .target = head.targets_M[begin + t],
                           .weight = head.weights_M[begin + t],
                           .gradient = head.gradient};
      if (row.weight == 0) {
        if (head.gradient) {
          std::fill_n(head.dlogits() + t * head.dline(), head.padded(), T(0.0f));
        }
        continue;
      }
      const HeadSums sums = softmax_row(row);
      head.nll_C[t] =
          static_cast<double>(sums.maximum) + std::log(sums.sum) - static_cast<double>(sums.target);
    }
  });
}

template <class T>
void add_losses(const Head<T>& head, std::int64_t begin, std::int64_t size) {
  double* const stats = head.frame[head.op.stats].template data<double>();
  for (std::int64_t t = 0; t < size; ++t) {
    const double weight = head.weights_M[begin + t];
    if (weight == 0) continue;
    stats[0] += weight * head.nll_C[t];
    stats[1] += weight;
  }
}

// dx, dw and dbias from the chunk's dlogits, the sums added to if `add`. The padding columns of
// dlogits are zero.
template <class T>
void make_gradients(CpuBackend& cpu, const Head<T>& head, std::int64_t begin, std::int64_t size,
                    bool add) {
  const HeadLoss& op = head.op;
  const Frame& frame = head.frame;
  const bool packed = frame.has(op.packed_t);
  ProductOf<T> dx = {.m = size,
                     .n = head.width,
                     .k = head.rows,
                     .a = head.dlogits(),
                     .lda = head.dline(),
                     .b = frame[packed ? op.packed_t : op.w].template data<T>(),
                     .ldb = head.width,
                     .b_stored = packed ? Stored::packed : Stored::rows,
                     .ldc = head.width,
                     .alpha = op.scale};
  write_to(dx, frame[op.dx], begin * head.width);
  multiply(cpu, dx);
  if (frame.has(op.dw)) {
    ProductOf<T> dw = {.m = head.rows,
                       .n = head.width,
                       .k = size,
                       .a = head.dlogits(),
                       .lda = head.dline(),
                       .a_stored = Stored::transposed,
                       .b = frame[op.x].template data<T>() + begin * head.width,
                       .ldb = head.width,
                       .b_stored = Stored::rows,
                       .ldc = head.width,
                       .accumulate = add,
                       .alpha = op.scale};
    write_to(dw, frame[op.dw]);
    multiply(cpu, dw);
  }
  if (frame.has(op.dbias)) {
    column_sum(cpu.pool(), cpu.isa(), head.dlogits(), size, head.rows, head.dline(), add,
               frame[op.dbias].template data<float>());
  }
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const HeadLoss& op, Tiles tiles) {
  with_storage(frame[op.x].dtype(), [&]<class T>() {
    const Head<T> head(op, frame);
    expect_targets(head);
    if (frame.first) std::fill_n(frame[op.stats].data<double>(), 2, 0.0);
    for (std::int64_t i = tiles.first; i < tiles.last && i * head.chunk() < head.count; ++i) {
      const std::int64_t begin = i * head.chunk();
      const std::int64_t size = std::min(head.chunk(), head.count - begin);
      make_logits(cpu, head, begin, size);
      softmax(cpu, head, begin, size);
      add_losses(head, begin, size);
      if (head.gradient) make_gradients(cpu, head, begin, size, i > tiles.first || !frame.first);
    }
  });
}

void run(CpuBackend& cpu, const Frame& frame, const HeadLoss& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
