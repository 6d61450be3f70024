// The softmax of head_loss_kernel.h in AVX-512.
#include "backend/cpu/ops/head_loss_kernel.h"

namespace sluice {

const HeadLossKernel avx512_head_loss = head_loss<Isa::avx512>();

}  // namespace sluice
