// Launchers of the ops that walk over activations once.
#include "backend/cuda/ops/ops.h"

namespace sluice {

gpu::Mask mask_of(const Frame& frame, const DropoutKey& key, Id control) {
  if (key.rate == 0) return {};
  return {.control = frame[control].data<double>(),
          .seed = key.seed,
          .stream = key.stream,
          .layer = frame.layer,
          .threshold = dropout_threshold(key.rate),
          .scale = static_cast<float>(1 / (1 - static_cast<double>(key.rate)))};
}

void run(CudaBackend& gpu, const Frame& frame, const Embed& op) {
  const Tensor& table = frame[op.table];
  gpu::embed(gpu.stream(), frame[op.ids].data<std::int32_t>(), frame[op.ids].count(), table.rows(),
             table.raw(), frame[op.y].raw(), table.cols() * size_of(table.dtype()),
             gpu.bad(CudaBackend::bad_id));
}

void run(CudaBackend& gpu, const Frame& frame, const EmbedGrad& op) {
  const Tensor& dtable = frame[op.dtable];
  const std::int64_t tokens = frame[op.ids].count();
  gpu::embed_grad(gpu.stream(), type_of(frame[op.dy]), frame[op.ids].data<std::int32_t>(), tokens,
                  dtable.rows(), frame[op.dy].raw(), dtable.data<float>(), dtable.cols(),
                  frame.first, gpu.scratch<int>(2 * (dtable.rows() + tokens + 1)),
                  gpu.bad(CudaBackend::bad_id));
}

void run(CudaBackend& gpu, const Frame& frame, const Add& op) {
  const Tensor& y = frame[op.y];
  gpu::add(gpu.stream(), type_of(y), frame[op.a].raw(), frame[op.b].raw(), op.scale_b, y.raw(),
           y.count());
}

void run(CudaBackend& gpu, const Frame& frame, const Scale& op) {
  const Tensor& y = frame[op.y];
  gpu::scale(gpu.stream(), type_of(y), frame[op.x].raw(), op.factor, y.raw(), y.count());
}

void run(CudaBackend& gpu, const Frame& frame, const Cast& op) {
  const Tensor &x = frame[op.x], &y = frame[op.y];
  const auto type = [](const Tensor& t) {
    return t.dtype() == DType::f64 ? gpu::Type::f64 : type_of(t);
  };
  gpu::cast(gpu.stream(), type(x), x.raw(), type(y), y.raw(), y.count());
}

void run(CudaBackend& gpu, const Frame& frame, const AddInto& op) {
  gpu::add_into(gpu.stream(), frame[op.x].data<float>(), frame[op.y].data<float>(),
                frame[op.y].count());
}

void run(CudaBackend& gpu, const Frame& frame, const Gelu& op) {
  const Tensor& x = frame[op.x];
  gpu::gelu(gpu.stream(), type_of(x), op.form == GeluForm::exact, x.raw(), frame[op.y].raw(),
            x.count());
}

void run(CudaBackend& gpu, const Frame& frame, const GeluGrad& op) {
  const Tensor& x = frame[op.x];
  gpu::gelu_grad(gpu.stream(), type_of(x), op.form == GeluForm::exact, x.raw(), frame[op.dy].raw(),
                 frame[op.dx].raw(), x.count());
}

void run(CudaBackend& gpu, const Frame& frame, const Dropout& op) {
  const Tensor &x = frame[op.x], &y = frame[op.y];
  if (op.key.rate == 0) {
    if (y.raw() != x.raw())
      gpu.copy_within(static_cast<std::byte*>(y.raw()), static_cast<const std::byte*>(x.raw()),
                      x.bytes());
    return;
  }
  gpu::dropout(gpu.stream(), type_of(x), mask_of(frame, op.key, op.control),
               x.count() / x.shape()[0].size, x.raw(), y.raw(), x.count());
}

void run(CudaBackend& gpu, const Frame& frame, const LayerNorm& op) {
  const Tensor& x = frame[op.x];
  gpu::layer_norm(gpu.stream(), type_of(x), x.raw(), nullptr, 0, nullptr,
                  frame[op.gain].data<float>(), data_or_null<float>(frame, op.bias), op.eps,
                  frame[op.y].raw(), frame[op.mean].data<float>(), frame[op.rstd].data<float>(),
                  x.rows(), x.cols());
}

void run(CudaBackend& gpu, const Frame& frame, const ResidualNorm& op) {
  const Tensor& a = frame[op.a];
  gpu::layer_norm(gpu.stream(), type_of(a), a.raw(), frame[op.b].raw(), op.scale_b,
                  frame[op.sum].raw(), frame[op.gain].data<float>(),
                  data_or_null<float>(frame, op.bias), op.eps, frame[op.y].raw(),
                  frame[op.mean].data<float>(), frame[op.rstd].data<float>(), a.rows(), a.cols());
}

void run(CudaBackend& gpu, const Frame& frame, const LayerNormGradInput& op) {
  const Tensor& x = frame[op.x];
  gpu::layer_norm_grad_input(
      gpu.stream(), type_of(x), x.raw(), frame[op.gain].data<float>(), frame[op.mean].data<float>(),
      frame[op.rstd].data<float>(), frame[op.dy].raw(),
      frame.has(op.plus) ? frame[op.plus].raw() : nullptr, frame[op.dx].raw(), x.rows(), x.cols());
}

void run(CudaBackend& gpu, const Frame& frame, const LayerNormGradWeight& op) {
  const Tensor& x = frame[op.x];
  gpu::layer_norm_grad_weight(gpu.stream(), type_of(x), x.raw(), frame[op.mean].data<float>(),
                              frame[op.rstd].data<float>(), frame[op.dy].raw(),
                              data_or_null<float>(frame, op.dgain),
                              data_or_null<float>(frame, op.dbias), !frame.first,
                              reinterpret_cast<float*>(frame.workspace.data()), x.rows(), x.cols());
}

void run(CudaBackend& gpu, const Frame& frame, const Rotary& op) {
  const Tensor& x = frame[op.x];
  const std::int64_t head = x.shape().last();
  gpu::rotary(gpu.stream(), type_of(x), x.raw(), frame[op.positions].data<std::int32_t>(),
              frame[op.y].raw(), frame[op.positions].count(), features(x.shape()) / head, head,
              op.dims, op.base, op.inverse);
}

void run(CudaBackend& gpu, const Frame& frame, const Pack& op) {
  const Tensor& w = frame[op.w];
  gpu::pack(gpu.stream(), type_of(w), w.raw(), frame[op.packed].raw(), op.k, op.n, op.transposed);
}

}  // namespace sluice
