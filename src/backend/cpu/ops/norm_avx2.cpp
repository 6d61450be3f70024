#include "backend/cpu/ops/norm_kernel.h"

namespace sluice {

constinit const NormKernels avx2_norm = kernel::norm<Isa::avx2>();

}  // namespace sluice
