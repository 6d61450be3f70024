#include "backend/cpu/ops/norm_kernel.h"

namespace sluice {

constinit const NormKernels avx512_norm = kernel::norm<Isa::avx512>();

}  // namespace sluice
