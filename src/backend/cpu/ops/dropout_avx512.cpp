#include "backend/cpu/ops/dropout_kernel.h"

namespace sluice {

constinit const DropoutKernels avx512_dropout = kernel::dropout_kernels<Isa::avx512>();

}  // namespace sluice
