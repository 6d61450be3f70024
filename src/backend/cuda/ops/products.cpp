// Launchers of matrix products. 2 m n k operations each; limit: the multiply-adds of the tensor
// cores in bf16, of the float32 units in float32.
//
// What is added to a result, or done to it, the library does in the product's epilogue: a bias is
// rounded to the result's type first, which is all that it takes. Where the library has no
// algorithm for that, or GELU is not to be made in a product, a bf16 result is rounded once all the
// same: the product stays in float32 in the backend's scratch memory, a stretch of rows at a time
// that fits the L2 cache, and the kernel that follows adds, rounds and stores. packed weights are
// of no use here.
#include <algorithm>

#include "backend/cuda/ops/ops.h"

namespace sluice {
namespace {

// y_MN = x_MK w, of which a part of the rows can be made.
struct Affine {
  std::int64_t m, n, k;
  gpu::Gemm gemm;  // of all rows, but for c

  Affine(const Tensor& x, const Tensor& w, std::int64_t out, bool transposed, float scale)
      : m(tokens(x.shape())), n(out), k(features(x.shape())) {
    gemm = {.m = m,
            .n = n,
            .k = k,
            .type = type_of(x),
            .a = x.raw(),
            .lda = k,
            .b = w.raw(),
            .ldb = transposed ? k : n,
            .b_transposed = transposed,
            .ldc = n,
            .alpha = scale};
  }

  void make(CudaBackend& gpu, const Tensor& y) const {
    gpu::Gemm whole = gemm;
    whole.c = y.raw();
    whole.c_type = type_of(y);
    gpu.multiply(whole);
  }

  // The whole of y with an epilogue; false: the library has none for it. Where lines are no whole
  // number of 16 bytes it would round to bf16 before a kernel of its own adds the bias.
  bool make(CudaBackend& gpu, const Tensor& y, Epilogue epilogue, const float* bias,
            void* aux) const {
    constexpr std::int64_t most = std::int64_t{1} << 31;  // numbers: some algorithms lose more
    if (n % 8 != 0 || k % 8 != 0 || m * std::max(n, k) >= most) return false;
    if (epilogue == Epilogue::gelu && bias == nullptr) return false;
    Product whole{.gemm = gemm, .epilogue = epilogue, .aux = aux};
    whole.gemm.c = y.raw();
    whole.gemm.c_type = type_of(y);
    if (!gpu.has(whole)) return false;
    if (bias != nullptr) whole.bias = rounded(gpu, bias, type_of(y));
    gpu.multiply(whole);
    return true;
  }

  // A bias as the library takes it; in scratch memory unless it is that already.
  void* rounded(CudaBackend& gpu, const float* bias, gpu::Type type) const {
    if (type == gpu::Type::f32) return const_cast<float*>(bias);
    void* const out = gpu.scratch<float>(n);
    gpu::cast(gpu.stream(), gpu::Type::f32, bias, type, out, n);
    return out;
  }

  // after(x, first, rows) for stretches of rows that lie in float32 at x: `y`, if that is what it
  // holds, or scratch.
  template <class After>
  void stretches(CudaBackend& gpu, const Tensor& x, const Tensor& y, After after) const {
    if (y.dtype() == DType::f32) {
      make(gpu, y);
      return after(y.data<float>(), std::int64_t{0}, m);
    }
    constexpr std::int64_t stretch_bytes = 32 << 20;
    const std::int64_t most = std::max<std::int64_t>(stretch_bytes / (4 * n) / 128 * 128, 128);
    const std::int64_t rows = std::min(m, most);
    float* const sums = gpu.scratch<float>(rows * n);
    for (std::int64_t first = 0; first < m; first += rows) {
      gpu::Gemm part = gemm;
      part.m = std::min(rows, m - first);
      part.a = moved(x, first * k);
      part.c = sums;
      gpu.multiply(part);
      after(sums, first, part.m);
    }
  }
};

}  // namespace

void run(CudaBackend& gpu, const Frame& frame, const Linear& op) {
  const Tensor &x = frame[op.x], &y = frame[op.y];
  const Affine affine(x, frame[op.w], features(y.shape()), op.out_in, op.scale);
  if (!frame.has(op.bias)) return affine.make(gpu, y);
  const float* bias = frame[op.bias].data<float>();
  if (affine.make(gpu, y, Epilogue::bias, bias, nullptr)) return;
  affine.stretches(gpu, x, y, [&](const float* sums, std::int64_t first, std::int64_t rows) {
    gpu::round_bias(gpu.stream(), sums, bias, type_of(y), moved(y, first * affine.n), rows,
                    affine.n);
  });
}

void run(CudaBackend& gpu, const Frame& frame, const LinearGelu& op) {
  const Tensor &x = frame[op.x], &h = frame[op.h], &y = frame[op.y];
  const Affine affine(x, frame[op.w], features(y.shape()), op.out_in, op.scale);
  const float* bias = data_or_null<float>(frame, op.bias);
  if (op.in_product && affine.make(gpu, y, Epilogue::gelu, bias, h.raw())) return;
  // As Linear and Gelu do it: GELU alone may be made again of the h that was kept.
  if (bias != nullptr && affine.make(gpu, h, Epilogue::bias, bias, nullptr))
    return gpu::gelu(gpu.stream(), type_of(h), op.form == GeluForm::exact, h.raw(), y.raw(),
                     y.count());
  affine.stretches(gpu, x, h, [&](const float* sums, std::int64_t first, std::int64_t rows) {
    const std::int64_t at = first * affine.n;
    gpu::bias_gelu(gpu.stream(), sums, bias, type_of(y), op.form == GeluForm::exact, moved(h, at),
                   moved(y, at), rows, affine.n);
  });
}

void run(CudaBackend& gpu, const Frame& frame, const LinearGradInput& op) {
  const Tensor& dx = frame[op.dx];
  const Affine affine(frame[op.dy], frame[op.w], features(dx.shape()), !op.out_in, op.scale);
  affine.make(gpu, dx);
}

void run(CudaBackend& gpu, const Frame& frame, const LinearGeluGrad& op) {
  const Tensor &dy = frame[op.dy], &h = frame[op.h], &dh = frame[op.dh];
  const Affine affine(dy, frame[op.w], features(dh.shape()), !op.out_in, op.scale);
  const bool in_product = op.form == GeluForm::tanh && dh.dtype() == DType::bf16;
  if (in_product && affine.make(gpu, dh, Epilogue::gelu_slope, nullptr, h.raw())) return;
  affine.stretches(gpu, dy, dh, [&](const float* sums, std::int64_t first, std::int64_t rows) {
    const std::int64_t at = first * affine.n;
    gpu::gelu_slope(gpu.stream(), sums, type_of(dh), op.form == GeluForm::exact, moved(h, at),
                    moved(dh, at), rows * affine.n);
  });
}

namespace {

gpu::Gemm weight_gradient(const Frame& frame, const LinearGradWeight& op) {
  const Tensor &x = frame[op.x], &dy = frame[op.dy];
  const std::int64_t in = features(x.shape()), out = features(dy.shape());
  return {.m = op.out_in ? out : in,
          .n = op.out_in ? in : out,
          .k = tokens(dy.shape()),
          .type = type_of(x),
          .a = (op.out_in ? dy : x).raw(),
          .lda = op.out_in ? out : in,
          .a_transposed = true,
          .b = (op.out_in ? x : dy).raw(),
          .ldb = op.out_in ? in : out,
          .c = frame[op.dw].data<float>(),
          .ldc = op.out_in ? in : out,
          .alpha = op.scale,
          .beta = frame.first ? 0.0f : 1.0f};
}

}  // namespace

// The library could sum dy's columns in the product's epilogue, and takes longer for both than two
// kernels do: 128 for 91 + 18 microseconds at 768 x 2304 x 16384 on an H200; and GELU's slope with
// a bias gradient, which it would round to bf16, 454 for 145 + 23.
void run(CudaBackend& gpu, const Frame& frame, const LinearGradWeight& op) {
  const Tensor& dy = frame[op.dy];
  const std::int64_t count = tokens(dy.shape()), out = features(dy.shape());
  if (frame.has(op.dw)) {
    const gpu::Gemm whole = weight_gradient(frame, op);
    const Tensor &left = op.out_in ? dy : frame[op.x], &right = op.out_in ? frame[op.x] : dy;
    // In stretches of tokens with fewer than 2³¹ numbers: some of the library's algorithms lose
    // those beyond.
    const std::int64_t most = ((std::int64_t{1} << 31) - 1) / std::max(whole.m, whole.n);
    for (std::int64_t begin = 0; begin < count; begin += most) {
      gpu::Gemm part = whole;
      part.k = std::min(most, count - begin);
      part.a = moved(left, begin * whole.m);
      part.b = moved(right, begin * whole.n);
      if (begin > 0) part.beta = 1.0f;
      gpu.multiply(part);
    }
  }
  if (frame.has(op.dbias))
    gpu::column_sum(gpu.stream(), type_of(dy), dy.raw(), count, out, out, !frame.first,
                    frame[op.dbias].data<float>(),
                    gpu.scratch<float>(gpu::column_sum_parts(count, out)));
}

namespace {

// dx, dw and dbias from a chunk's dlogits, which lie `line` numbers apart.
void head_gradients(CudaBackend& gpu, const Frame& frame, const HeadLoss& op,
                    const gpu::HeadChunk& chunk, std::int64_t begin, bool add) {
  const Tensor& x = frame[op.x];
  const std::int64_t width = features(x.shape());
  const std::int64_t line = chunk.line * 4 / size_of(x.dtype());
  gpu::Gemm dx{.m = chunk.tokens,
               .n = width,
               .k = chunk.rows,
               .type = chunk.type,
               .a = chunk.logits,
               .lda = line,
               .b = frame[op.w].raw(),
               .ldb = width,
               .c_type = chunk.type,
               .c = moved(frame[op.dx], begin * width),
               .ldc = width,
               .alpha = op.scale};
  gpu.multiply(dx);
  if (frame.has(op.dw))
    gpu.multiply({.m = chunk.rows,
                  .n = width,
                  .k = chunk.tokens,
                  .type = chunk.type,
                  .a = chunk.logits,
                  .lda = line,
                  .a_transposed = true,
                  .b = moved(x, begin * width),
                  .ldb = width,
                  .c = frame[op.dw].data<float>(),
                  .ldc = width,
                  .alpha = op.scale,
                  .beta = add ? 1.0f : 0.0f});
  if (frame.has(op.dbias))
    gpu::column_sum(gpu.stream(), chunk.type, chunk.logits, chunk.tokens, chunk.rows, line, add,
                    frame[op.dbias].data<float>(),
                    gpu.scratch<float>(gpu::column_sum_parts(chunk.tokens, chunk.rows)));
}

}  // namespace

// Per chunk one product for the logits, which stay in the op's workspace, and with gradients two
// more.
void run(CudaBackend& gpu, const Frame& frame, const HeadLoss& op) {
  const Tensor& x = frame[op.x];
  const std::int64_t count = tokens(x.shape()), width = features(x.shape());
  const std::int64_t size = std::min(op.chunk, count), rows = frame[op.w].rows();
  gpu::HeadChunk chunk{.type = type_of(x),
                       .logits = reinterpret_cast<float*>(frame.workspace.data()),
                       .line = head_loss_line(rows, x.dtype()),
                       .vocab = op.vocab,
                       .rows = rows,
                       .bias = data_or_null<float>(frame, op.bias),
                       .gradient = frame.has(op.dx)};
  chunk.nll = reinterpret_cast<double*>(chunk.logits + size * chunk.line);
  for (std::int64_t begin = 0; begin < count; begin += size) {
    chunk.tokens = std::min(size, count - begin);
    chunk.targets = frame[op.targets].data<std::int32_t>() + begin;
    chunk.weights = frame[op.weights].data<float>() + begin;
    gpu.multiply({.m = chunk.tokens,
                  .n = rows,
                  .k = width,
                  .type = chunk.type,
                  .a = moved(x, begin * width),
                  .lda = width,
                  .b = frame[op.w].raw(),
                  .ldb = width,
                  .b_transposed = true,
                  .c = chunk.logits,
                  .ldc = chunk.line,
                  .alpha = op.scale});
    const bool first = begin == 0 && frame.first;
    gpu::head_softmax(gpu.stream(), chunk, gpu.bad(CudaBackend::bad_target));
    gpu::head_losses(gpu.stream(), chunk, frame[op.stats].data<double>(), first);
    if (chunk.gradient) head_gradients(gpu, frame, op, chunk, begin, !first);
  }
}

}  // namespace sluice
