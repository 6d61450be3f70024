// Attention on the tensor cores, for the shapes that on_tensor_cores() says; called by
// attention() and attention_grad(). Which one a shape gets hangs on shape and type alone.
#pragma once

#include "backend/cuda/kernels/kernels.h"

namespace sluice::gpu {

bool on_tensor_cores(const AttentionShape& a);
void attention_mma(cudaStream_t s, const AttentionShape& a, Heads q, Heads k, Heads v, Heads y,
                   float* lse);
// out.delta is already made.
void attention_grad_mma(cudaStream_t s, const AttentionShape& a, Heads q, Heads k, Heads v,
                        const float* lse, Heads dy, const AttentionGradients& out);

}  // namespace sluice::gpu
