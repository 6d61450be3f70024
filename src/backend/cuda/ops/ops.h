// The GPU kernels, one launcher per op; each only puts work on the stream.
// Shapes were checked when the graph was built; what is data (indices) kernels check.
#pragma once

#include "backend/cuda/gpu.h"

namespace sluice {

// A tensor's type as kernels know it.
inline gpu::Type type_of(const Tensor& tensor) {
  require(tensor.dtype() == DType::f32 || tensor.dtype() == DType::bf16, [&] {
    return Error(fmt::format("no kernel of the GPU computes with {}", name_of(tensor.dtype())));
  });
  return tensor.dtype() == DType::bf16 ? gpu::Type::bf16 : gpu::Type::f32;
}
// The numbers of an operand, null when it is absent.
template <class T>
T* data_or_null(const Frame& frame, Id id) {
  return frame.has(id) ? frame[id].data<T>() : nullptr;
}
// What keys dropout's random numbers, control read by the kernel.
gpu::Mask mask_of(const Frame& frame, const DropoutKey& key, Id control);
// So many numbers on from the first.
inline void* moved(const Tensor& tensor, std::int64_t numbers) {
  return static_cast<std::byte*>(tensor.raw()) + numbers * size_of(tensor.dtype());
}

// What Backend::prepare() does for an op.
void prepare(CudaBackend& gpu, const Frame& frame, const Attention& op);
void prepare(CudaBackend& gpu, const Frame& frame, const AttentionGrad& op);

void run(CudaBackend& gpu, const Frame& frame, const Embed& op);
void run(CudaBackend& gpu, const Frame& frame, const EmbedGrad& op);
void run(CudaBackend& gpu, const Frame& frame, const Add& op);
void run(CudaBackend& gpu, const Frame& frame, const Scale& op);
void run(CudaBackend& gpu, const Frame& frame, const Cast& op);
void run(CudaBackend& gpu, const Frame& frame, const AddInto& op);
void run(CudaBackend& gpu, const Frame& frame, const LayerNorm& op);
void run(CudaBackend& gpu, const Frame& frame, const ResidualNorm& op);
void run(CudaBackend& gpu, const Frame& frame, const LayerNormGradInput& op);
void run(CudaBackend& gpu, const Frame& frame, const LayerNormGradWeight& op);
void run(CudaBackend& gpu, const Frame& frame, const Linear& op);
void run(CudaBackend& gpu, const Frame& frame, const LinearGradInput& op);
void run(CudaBackend& gpu, const Frame& frame, const LinearGradWeight& op);
void run(CudaBackend& gpu, const Frame& frame, const LinearGelu& op);
void run(CudaBackend& gpu, const Frame& frame, const LinearGeluGrad& op);
void run(CudaBackend& gpu, const Frame& frame, const Gelu& op);
void run(CudaBackend& gpu, const Frame& frame, const GeluGrad& op);
void run(CudaBackend& gpu, const Frame& frame, const Rotary& op);
void run(CudaBackend& gpu, const Frame& frame, const Attention& op);
void run(CudaBackend& gpu, const Frame& frame, const AttentionGrad& op);
void run(CudaBackend& gpu, const Frame& frame, const Dropout& op);
void run(CudaBackend& gpu, const Frame& frame, const HeadLoss& op);
void run(CudaBackend& gpu, const Frame& frame, const RoundGradient& op);
void run(CudaBackend& gpu, const Frame& frame, const RestoreGradient& op);
void run(CudaBackend& gpu, const Frame& frame, const SquaredNorm& op);
void run(CudaBackend& gpu, const Frame& frame, const FinishStep& op);
void run(CudaBackend& gpu, const Frame& frame, const AdamW& op);
void run(CudaBackend& gpu, const Frame& frame, const Ema& op);
void run(CudaBackend& gpu, const Frame& frame, const Pack& op);

}  // namespace sluice
