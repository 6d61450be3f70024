// The softmax of head_loss_kernel.h in AVX2.
#include "backend/cpu/ops/head_loss_kernel.h"

namespace sluice {

const HeadLossKernel avx2_head_loss = head_loss<Isa::avx2>();

}  // namespace sluice
