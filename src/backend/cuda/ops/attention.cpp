// Launchers of attention: cuDNN's for what ops/attention/pieces.h says, else our own, whose kernels
// and limits are in kernels/attention.cu.
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

// The library's pieces; none when it is for our own kernels.
template <class OneOp>
AttentionPieces pieces_for(const Frame& frame, const OneOp& op, const gpu::AttentionShape& shape,
                           bool gradient) {
  return pieces_of({.kernels = op.kernels,
                    .type = frame[op.q.id].dtype(),
                    .gradient = gradient,
                    .cached = false,
                    .dropped = op.dropout.rate > 0,
                    .batch = shape.batch,
                    .time = shape.time,
                    .heads = shape.heads,
                    .key_heads = shape.key_heads,
                    .head = shape.head});
}

// What the library is asked for; without pieces when this is for our own kernels.
LibraryAttention library_of(const Frame& frame, const Attention& op) {
  LibraryAttention out;
  if (frame.has(op.lengths)) return out;
  out.shape = shape_of(frame, op, op.k);
  out.pieces = pieces_for(frame, op, out.shape, false);
  out.kind = frame.has(op.lse) ? CudnnKind::forward_lse : CudnnKind::forward;
  out.q = heads_of(frame, op.q), out.k = heads_of(frame, op.k), out.v = heads_of(frame, op.v);
  out.y = heads_of(frame, {op.y}), out.lse = data_or_null<float>(frame, op.lse);
  out.workspace = frame.workspace;
  return out;
}

LibraryAttention library_of(const Frame& frame, const AttentionGrad& op) {
  LibraryAttention out;
  out.shape = shape_of(frame, op, op.k);
  out.pieces = pieces_for(frame, op, out.shape, true);
  const bool any = op.kernels == AttentionKernels::unordered;
  out.kind = any ? CudnnKind::any_gradient : CudnnKind::gradient;
  out.q = heads_of(frame, op.q), out.k = heads_of(frame, op.k), out.v = heads_of(frame, op.v);
  out.y = heads_of(frame, {op.y}), out.lse = frame[op.lse].data<float>();
  out.dy = heads_of(frame, {op.dy});
  out.dq = heads_of(frame, op.dq), out.dk = heads_of(frame, op.dk), out.dv = heads_of(frame, op.dv);
  out.workspace = frame.workspace;
  return out;
}

template <class OneOp>
void prepare_library(CudaBackend& gpu, const Frame& frame, const OneOp& op) {
  if (const LibraryAttention asked = library_of(frame, op); asked.pieces)
    gpu.cudnn().prepare(asked);
}

}  // namespace

void prepare(CudaBackend& gpu, const Frame& frame, const Attention& op) {
  prepare_library(gpu, frame, op);
}

void prepare(CudaBackend& gpu, const Frame& frame, const AttentionGrad& op) {
  prepare_library(gpu, frame, op);
}

void run(CudaBackend& gpu, const Frame& frame, const Attention& op) {
  if (const LibraryAttention asked = library_of(frame, op); asked.pieces)
    return gpu.cudnn().run(gpu.stream(), asked);
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
  if (const LibraryAttention asked = library_of(frame, op); asked.pieces)
    return gpu.cudnn().run(gpu.stream(), asked);
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
