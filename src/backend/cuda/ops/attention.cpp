// Launchers of attention; kernels and their limits in kernels/attention.cu.
#include "backend/cuda/ops/ops.h"

namespace sluice {
namespace {

gpu::Heads heads_of(const Frame& frame, const Slice& slice) {
  const Tensor& tensor = frame[slice.id];
  const Shape& shape = tensor.shape();
  const std::int64_t row = shape.size(Axis::heads) * shape.size(Axis::head);
  const std::int64_t token = row * slice.parts;
  return {.data = moved(tensor, slice.part * row),
          .token = token,
          .batch = shape.size(Axis::time) * token};
}

template <class OneOp>
gpu::AttentionShape shape_of(const Frame& frame, const OneOp& op, const Slice& keys) {
  const Tensor& q = frame[op.q.id];
  gpu::AttentionShape out{.type = type_of(q),
                          .batch = q.shape().size(Axis::batch),
                          .time = q.shape().size(Axis::time),
                          .heads = q.shape().size(Axis::heads),
                          .key_heads = frame[keys.id].shape().size(Axis::heads),
                          .head = q.shape().size(Axis::head),
                          .scale = op.scale,
                          .starts = data_or_null<std::int32_t>(frame, op.starts)};
  require(out.head <= 256, [&] {
    return Error(Exit::usage, {"attention on the GPU has no kernel for heads of this size",
                               "model.heads",
                               "heads of at most 256 numbers",
                               fmt::format("{}", out.head),
                               {}});
  });
  return out;
}

}  // namespace

void run(CudaBackend& gpu, const Frame& frame, const Attention& op) {
  const bool cached = frame.has(op.lengths);
  const Slice keys = cached ? Slice{op.k_cache} : op.k, values = cached ? Slice{op.v_cache} : op.v;
  gpu::AttentionShape shape = shape_of(frame, op, keys);
  if (cached) {
    const std::int64_t capacity = frame[op.k_cache].shape().size(Axis::time);
    shape.lengths = frame[op.lengths].data<std::int32_t>();
    int* const bad = gpu.bad(CudaBackend::bad_cache);
    gpu::append(gpu.stream(), shape, heads_of(frame, op.k), heads_of(frame, keys), capacity, bad);
    gpu::append(gpu.stream(), shape, heads_of(frame, op.v), heads_of(frame, values), capacity, bad);
  } else {
    shape.mask = mask_of(frame, op.dropout, op.control);
  }
  gpu::attention(gpu.stream(), shape, heads_of(frame, op.q), heads_of(frame, keys),
                 heads_of(frame, values), heads_of(frame, {op.y}),
                 data_or_null<float>(frame, op.lse));
}

void run(CudaBackend& gpu, const Frame& frame, const AttentionGrad& op) {
  gpu::AttentionShape shape = shape_of(frame, op, op.k);
  shape.mask = mask_of(frame, op.dropout, op.control);
  const gpu::AttentionGradients out{
      .dq = heads_of(frame, op.dq),
      .dk = heads_of(frame, op.dk),
      .dv = heads_of(frame, op.dv),
      .delta = gpu.scratch<float>(shape.batch * shape.heads * shape.time)};
  gpu::attention_grad(gpu.stream(), shape, heads_of(frame, op.q), heads_of(frame, op.k),
                      heads_of(frame, op.v), heads_of(frame, {op.y}), frame[op.lse].data<float>(),
                      heads_of(frame, {op.dy}), out);
}

}  // namespace sluice
