// The softmax of head_loss_kernel.h in plain C++.
#include "backend/cpu/ops/head_loss_kernel.h"

namespace sluice {

const HeadLossKernel portable_head_loss = head_loss<Isa::portable>();

}  // namespace sluice
