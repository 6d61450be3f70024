#include "backend/cpu/ops/dropout_kernel.h"

namespace sluice {

constinit const DropoutKernels portable_dropout = kernel::dropout_kernels<Isa::portable>();

}  // namespace sluice
