// The softmax of head_loss_kernel.h in AVX2.
#include "backend/cpu/ops/head_loss_kernel.h"

namespace sluice {

const HeadLossKernel avx2_head_loss = {.row = head_loss_row<Isa::avx2>};

}  // namespace sluice
