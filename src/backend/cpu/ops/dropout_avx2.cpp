#include "backend/cpu/ops/dropout_kernel.h"

namespace sluice {

constinit const DropoutKernels avx2_dropout = kernel::dropout_kernels<Isa::avx2>();

}  // namespace sluice
